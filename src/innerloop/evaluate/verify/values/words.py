"""Words around numbers: what changes them, what joins them, what means nothing."""

from __future__ import annotations


def listed(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


#: Words that say something else of a number, wherever they stand before it.
REFUSING = listed("not no never neither nor none cannot without except excluding unless instead wrong incorrect")
#: Words that make another number, or a bound, of the number that they stand next to.
JOINING = listed("to from and or by between than until till versus vs but if")
#: Words that do so from a little further away: "square root of 8".
CHANGING = listed(
    """zero two three four five six seven eight nine ten eleven twelve point less fewer under below beneath lower
    smaller least most more over above beyond exceeding greater larger higher bigger maximum minimum max min up
    through range ranges within twice thrice double triple quadruple doubled tripled quadrupled halved half fold
    multiplied divided product quotient sum difference plus minus negative subtracted increased decreased reduced
    square squared cube cubed root power factorial reciprocal inverse opposite log logarithm sine cosine tangent
    modulo mod hundred hundreds thousand thousands million millions billion billions trillion trillions lakh lakhs
    crore crores gross quarter quarters third thirds fourth fourths fifth fifths sixth sixths seventh sevenths
    eighth eighths ninth ninths tenth tenths hundredth hundredths thousandth thousandths halves pi tau infinity
    either maybe perhaps possibly probably choose short missing deficit debt loss ago every multiple multiples
    divisible factor factors digit digits nearly almost barely absolute complement remainder prime exceed exceeds
    unlike squares cubes another bn mn tn mln bln dozen score pair couple nth th"""
)
#: Words of this kind that leave a number alone where they follow its unit: "11 more CDs", "3 hours more than James".
COUNTING = listed("more less fewer every over up most least dozen score pair couple another short prime")
FILLERS = listed(
    """a an the about approximately approx around roughly circa exactly precisely only just is are was were be equals
    equal it its answer value result total of in all therefore so thus hence we get there have has she he they final
    correct which that"""
)
CONNECTIVES = listed(
    "or and but not to vs versus rather than alternatively maybe perhaps possibly otherwise then else ie aka"
)
