// Starting the page: sections, theme, navigation, the trajectory named in the address.

const THEMES = ["system", "light", "dark"];

function startTheme() {
  const button = byId("theme");
  const before = remembered("localStorage", "innerloop-theme");
  let theme = THEMES.includes(before) ? before : "system";
  const apply = () => {
    document.documentElement.dataset.theme = theme;
    button.replaceChildren({ system: "◐", light: "○", dark: "●" }[theme], el("span", {}, ` ${theme}`));
    button.setAttribute("aria-label", `Colours: ${theme}. Change`);
  };
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    remembered("localStorage", "innerloop-theme", theme);
    apply();
    tell("theme");
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => tell("theme"));
  button.hidden = false;
  apply();
}

function startNavigation() {
  const links = new Map([...document.querySelectorAll(".bar nav a")].map((link) => [link.hash.slice(1), link]));
  const watch = new IntersectionObserver(
    (seen) => {
      for (const { isIntersecting, target } of seen) {
        if (!isIntersecting) continue;
        for (const link of links.values()) link.removeAttribute("aria-current");
        links.get(target.id)?.setAttribute("aria-current", "true");
      }
    },
    { rootMargin: "-30% 0px -60% 0px" },
  );
  for (const id of links.keys()) watch.observe(byId(id));
}

/** The address names the open trajectory (#t=ID), so that a link to it can be shared. */
const named = () => index.rows.findIndex((row) => location.hash === `#t=${encodeURIComponent(row.id)}`);

function startSelection() {
  let started = false;
  on("select", (i) => {
    if (started) history.replaceState(null, "", `#t=${encodeURIComponent(index.rows[i].id)}`);
  });
  addEventListener("hashchange", () => named() >= 0 && select(named(), { reveal: true }));
  const first = index.rows.findIndex((row) => row.spark);
  if (named() >= 0) select(named(), { reveal: true });
  else select(Math.max(0, first));
  started = true;
}

startTheme();
startNavigation();
const drawing = sections.filter(({ key }) => byId(key)).map(({ start }) => start());
startSelection();
document.documentElement.dataset.ready = "text";
Promise.all(drawing).then(() => (document.documentElement.dataset.ready = "charts"));
