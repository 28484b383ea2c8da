"""Units and the words that stand around numbers: what they multiply by, and what they change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from innerloop.evaluate.verify.values.tokens import COMMAND, LETTER, MARK, NUMBER, RUN, WORD, Token
from innerloop.evaluate.verify.values.tree import Unreadable
from innerloop.evaluate.verify.values.words import CHANGING, COUNTING, JOINING, REFUSING, listed

Dimensions = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Unit:
    """What a number counts: its dimensions and size where it is known, else its words; and how it is spelled."""

    dimensions: Dimensions = ()
    size: Fraction = Fraction(1)
    words: tuple[str, ...] = ()
    spelled: str = field(default="", compare=False)

    @property
    def known(self) -> bool:
        """Whether the table below has it."""
        return not self.words


@dataclass(frozen=True)
class Tail:
    """What follows a number: a unit, a factor (million, tenths), a percent sign, ``below zero``."""

    unit: Unit | None = None
    factor: Fraction = Fraction(1)
    percent: bool = False
    negative: bool = False


_TABLE = """
time 1 second seconds sec secs s
time 60 minute minutes min mins
time 3600 hour hours hr hrs h
time 86400 day days
time 604800 week weeks wk wks
year 1 year years yr yrs
year 1/12 month months
length 1 meter meters metre metres m
length 1/1000 millimeter millimeters millimetre millimetres mm
length 1/100 centimeter centimeters centimetre centimetres cm
length 1/10 decimeter decimeters decimetre decimetres dm
length 1000 kilometer kilometers kilometre kilometres km kms
length 127/5000 inch inches in
length 381/1250 foot feet ft
length 1143/1250 yard yards yd yds
length 201168/125 mile miles mi
mass 1 gram grams gramme grammes g gm
mass 1/1000 milligram milligrams mg
mass 1000 kilogram kilograms kg kgs kilo kilos
mass 1000000 tonne tonnes
mass 45359237/100000 pound pounds lb lbs
mass 45359237/1600000 ounce ounces oz
volume 1 liter liters litre litres l L
volume 1/1000 milliliter milliliters millilitre millilitres ml mL
volume 473176473/125000000 gallon gallons gal
volume 473176473/500000000 quart quarts
volume 473176473/1000000000 pint pints
dollar 1 dollar dollars $ usd buck bucks
dollar 1/100 cent cents ¢
euro 1 euro euros € eur
sterling 1 £ gbp
yen 1 ¥ yen
yuan 1 yuan 元 rmb cny 块
rupee 1 ₹ rupee rupees rs inr
won 1 ₩ won
ruble 1 ₽ ruble rubles
peso 1 ₱ peso pesos
lira 1 ₺ lira
shekel 1 ₪ shekel shekels
baht 1 ฿ baht
dong 1 ₫ dong
angle 1 degree degrees ° deg
angle 1/60 arcminute arcminutes
celsius 1 °C
fahrenheit 1 °F
power 1 watt watts W
power 1000 kilowatt kilowatts kW
energy 1 joule joules J
energy 1000 kilojoule kilojoules kJ
force 1 newton newtons N
temperature 1 kelvin kelvins K
current 1 ampere amperes amp amps A
voltage 1 volt volts V
charge 1 coulomb coulombs C
capacity 1 farad farads F
resistance 1 ohm ohms Ω
frequency 1 hertz Hz
pressure 1 pascal pascals Pa
amount 1 mole moles mol
"""
_UNITS: dict[str, tuple[str, Fraction]] = {
    name: (dimension, Fraction(size))
    for line in _TABLE.strip().splitlines()
    for dimension, size, *names in [line.split()]
    for name in names
}
_SPEEDS = {"mph": "mile hour", "kph": "kilometer hour", "kmh": "kilometer hour", "mpg": "mile gallon"}
LETTERS = frozenset("mgshlLNJWVAKCFΩ")  # units of one letter
PREFIXES = frozenset("kµμ")  # letters that belong to the unit after them
#: Abbreviations of units with a prefix, read as such where single letters are: ``MJ``, ``kWh``.
ABBREVIATIONS = frozenset(
    f"{prefix}{unit}"
    for prefix in ("", *"kMGTmµμnpcdh")
    for unit in listed("m g s l L J W Wh V A N K Hz Pa eV mol F C T H Ω B bit cal Bq Gy")
)
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3, "squared": 2, "cubed": 3}
_FACTORS: dict[str, Fraction] = {
    **dict.fromkeys(("hundred", "hundreds"), Fraction(100)),
    **dict.fromkeys(("thousand", "thousands"), Fraction(10**3)),
    **dict.fromkeys(("lakh", "lakhs", "lac", "lacs"), Fraction(10**5)),
    **dict.fromkeys(("million", "millions", "mn", "mln", "mil"), Fraction(10**6)),
    **dict.fromkeys(("crore", "crores"), Fraction(10**7)),
    **dict.fromkeys(("billion", "billions", "bn", "bln"), Fraction(10**9)),
    **dict.fromkeys(("trillion", "trillions", "tn", "trn"), Fraction(10**12)),
    **{
        "十": Fraction(10),
        "萬": Fraction(10**4),
        "万": Fraction(10**4),
        "億": Fraction(10**8),
        "亿": Fraction(10**8),
        "千": Fraction(10**3),
        "百": Fraction(100),
    },
    **dict.fromkeys(("dozen", "dozens"), Fraction(12)),
    **dict.fromkeys(("score", "scores"), Fraction(20)),
    **dict.fromkeys(("pair", "pairs", "couple", "couples"), Fraction(2)),
}
_PARTS = [
    "half",
    "third",
    "quarter",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
    "thirteenth",
    "fourteenth",
    "fifteenth",
    "sixteenth",
]
for _place, _name in enumerate(_PARTS, 2):
    _value = Fraction(1, 4 if _name == "quarter" else _place)
    _FACTORS |= {_name: _value, f"{_name}s": _value, f"{_name}es": _value}
_FACTORS |= {"halves": Fraction(1, 2), "fourths": Fraction(1, 4), "fourth": Fraction(1, 4)}
for _name, _power in (("hundredth", 2), ("thousandth", 3), ("millionth", 6), ("billionth", 9), ("twentieth", 0)):
    _value = Fraction(1, 10**_power) if _power else Fraction(1, 20)
    _FACTORS |= {_name: _value, f"{_name}s": _value}
_ORDINARY = {"pairs", "pair", "scores", "score", "couple", "couples"}  # units unless alone: "5 pairs of socks"
_PERCENT = frozenset(("%", "percent", "percents", "pct", "percentage", "％"))
_ZERO = ("below", "zero")
CURRENCY = listed("$ € £ ¥ ₹ 元 ¢ ₩ ₽ ₱ ₺ ₪ ฿ ₫ usd eur gbp us rs inr rmb cny")
#: Signs of money, which may stand before a number or after it.
SIGNS = listed("$ € £ ¥ ₹ ¢ ₩ ₽ ₱ ₺ ₪ ฿ ₫")
_NAMES = frozenset(_UNITS) | frozenset(_SPEEDS) | frozenset(_POWERS) | frozenset(_FACTORS) | _PERCENT


def is_known(word: str) -> bool:
    """Whether a word is a unit, a factor or a percent sign."""
    return word in _NAMES or word.lower() in _NAMES


def is_unit(word: str) -> bool:
    """Whether a word of two letters or more is a unit."""
    return word in _UNITS or word.lower() in _UNITS or word.lower() in _SPEEDS


def short(letter: str) -> Unit | None:
    """The unit that one letter stands for."""
    found = _UNITS.get(letter)
    return Unit(((found[0], 1),), found[1]) if found is not None and len(letter) <= 2 else None


def parse(tokens: Sequence[Token]) -> Tail:
    """What the tokens after a number mean. ``Unreadable`` where they are not all words of this kind."""
    words = [
        token for token in tokens if not token.marks("{", "}", "*") and not (token.kind == MARK and token.text == ".")
    ]
    factor, percent, place = Fraction(1), False, 0
    while place < len(words) and words[place].text.lower() in _FACTORS:
        text = words[place].text.lower()
        if text in _ORDINARY and place + 1 < len(words):
            break
        factor *= _FACTORS[text]
        place += 1
        if place < len(words) and words[place].text == "of":
            place += 1
    rest = words[place:]
    if [word.text.lower() for word in rest[-2:]] == list(_ZERO):
        tail = parse(rest[:-2])
        return Tail(tail.unit, factor * tail.factor, tail.percent, negative=True)
    if rest and rest[0].text.lower() in ("per",) and len(rest) > 1 and rest[1].text.lower() in ("cent", "cents"):
        rest, percent = rest[2:], True
    elif rest and rest[0].text.lower() in _PERCENT:
        rest, percent = rest[1:], True
    for token in rest:
        word = token.text.lower()
        if word in REFUSING | JOINING | CHANGING - COUNTING and word not in _POWERS and not is_unit(word):
            raise Unreadable(f"{word} makes another number of it")
        if token.kind == LETTER and not token.upright and token.text not in _UNITS and token.text not in PREFIXES:
            raise Unreadable("a factor that follows words")
    if percent:
        rest = []
    return Tail(replace(_unit(rest), spelled=_spelled(rest)) if rest else None, factor, percent)


def _spelled(tokens: Sequence[Token]) -> str:
    """The unit in plain signs: ``kg m/s^2``."""
    text = ""
    for token in tokens:
        apart = text[-1:].isalpha() and token.text[:1].isalpha() and text[-1:] not in PREFIXES
        text += f" {token.text}" if apart else token.text
    return text


def _unit(tokens: Sequence[Token]) -> Unit:
    """``km/h``, ``square inches``, ``m^2``, ``dollars per day``; the words where one of them is not known."""
    if any(token.kind not in (WORD, RUN, LETTER, MARK, NUMBER) or token.kind == COMMAND for token in tokens):
        raise Unreadable("no unit")
    dimensions: dict[str, int] = {}
    size, direction, power = Fraction(1), 1, 1
    unknown = False
    place = 0
    while place < len(tokens):
        text = tokens[place].text
        if text == "°" and place + 1 < len(tokens) and tokens[place + 1].text in ("C", "F"):
            text += tokens[place + 1].text
            place += 1
        place += 1
        if text in ("/", "per"):
            direction = -1
        elif text.lower() in _POWERS and text.lower() in ("square", "sq", "cubic", "cu"):
            power = _POWERS[text.lower()]
        elif text.lower() in _POWERS:
            raise Unreadable("a power of the number")
        elif text.lower() in _SPEEDS:
            upper, lower = _SPEEDS[text.lower()].split()
            size *= _count(dimensions, upper, 1) * _count(dimensions, lower, -1)
        elif (name := text if text in _UNITS else text.lower()) in _UNITS:
            place, exponent = _exponent(tokens, place)
            size *= _count(dimensions, name, direction * (exponent or power))
            direction, power = 1, 1
        else:
            unknown = True
    if unknown:
        return Unit(words=tuple(_singular(token.text.lower()) for token in tokens if token.kind in (WORD, RUN, LETTER)))
    return Unit(tuple(sorted((name, own) for name, own in dimensions.items() if own)), size)


def _count(dimensions: dict[str, int], name: str, power: int) -> Fraction:
    dimension, size = _UNITS[name]
    dimensions[dimension] = dimensions.get(dimension, 0) + power
    return size**power


def _exponent(tokens: Sequence[Token], place: int) -> tuple[int, int]:
    """The exponent after a unit, and the place behind it; 0 without one."""
    if place < len(tokens) and tokens[place].text.lower() in ("squared", "cubed"):
        return place + 1, _POWERS[tokens[place].text.lower()]
    if place + 1 < len(tokens) and tokens[place].marks("^"):
        sign = -1 if tokens[place + 1].marks("-") and place + 2 < len(tokens) else 1
        number = tokens[place + (2 if sign < 0 else 1)]
        if number.kind == NUMBER and number.text in ("1", "2", "3", "4"):
            return place + (3 if sign < 0 else 2), sign * int(number.text)
    if place < len(tokens) and tokens[place].kind in (MARK, NUMBER) and not tokens[place].marks("/"):
        raise Unreadable("no unit")
    return place, 0


def _singular(word: str) -> str:
    return word[:-1] if word.endswith("s") and len(word) > 3 else word
