"""Formulas as MathML, made when the site is built: browsers draw it without a script or a font."""

from __future__ import annotations

import html
import re

# MathML Core, which browsers draw, knows letters of other kinds by their characters only.
_LETTERS = {
    "script": dict(zip("DEFGHJLMNOPRSUX", "𝒟ℰℱ𝒢ℋ𝒥ℒℳ𝒩𝒪𝒫ℛ𝒮𝒰𝒳", strict=True)),
    "double-struck": dict(zip("CENPQRZ", "ℂ𝔼ℕℙℚℝℤ", strict=True)),
}
_NAME = "<mi>(?:log|exp|det|tanh|sin|cos|max|min)</mi>"
_FUNCTION = (
    rf"((?<!<msub>)(?<!<msup>){_NAME}|<msub>{_NAME}<m[in]>\w</m[in]></msub>)"
    r"(?!<mo[^>]*>(?:&#x00028;|&#x0005B;))"
)

# A function after its factor has a space before it, too.
_FACTOR = rf"(</(?:mi|mn|mfrac|msub|msup|mrow)>)(?=(?:<msub>)?{_NAME})"
# A sign after a relation or an opening bracket, which would else be a difference.
_MINUS = (
    r"(<mo[^>]*>(?:=|&#x0003D;|&#x00028;|,|&#x0002C;|&#x02264;|&#x02265;)</mo>)<mo>&#x02212;</mo>"
)
# What the converter takes for something else, or browsers set too close.
_SIGNS = {
    '<mo movablelimits="true">det</mo>': "<mi>det</mi>",
    "<mi>:</mi><mo>&#x0003D;</mo>": "<mo>:=</mo>",
    "<mi>&#x0007E;</mi>": "<mo>&#x0223C;</mo>",
    "<mo>&#x0222B;</mo>": '<mo rspace="0.45em">&#x0222B;</mo>',
}
# Bars around a value have no space on either side, whichever they are.
_BAR = '<mo stretchy="false" lspace="0" rspace="0">&#x0007C;</mo>'


def _ruled(mathml: str) -> str:
    """Draw underbraces and tall bars by rules of the style sheet.

    Browsers stretch both from pieces of a font that neither meet nor reach the ends.
    """
    mathml = re.sub(
        r"<munder><munder>(<mrow>.*?</mrow>)<mo>&#x0?23DF;</mo></munder>(<mrow><mtext>.*?</mrow>)"
        r"</munder>",
        r'<munder class="braced">\1\2</munder>',
        mathml,
    )
    bar = '<mo stretchy="true" fence="true" form="{}">&#x0007C;</mo>'
    bars = f"{bar.format('prefix')}(.*?){bar.format('postfix')}"
    return re.sub(bars, r'<mrow class="bars">\1</mrow>', mathml)


def to_mathml(tex: str, display: bool) -> str:
    r"""Return a formula in TeX as MathML.

    >>> to_mathml(r"\log p", display=False).endswith(
    ...     '<mi>log</mi><mspace width="0.17em" /><mi>p</mi></mrow></math>'
    ... )
    True
    """
    from latex2mathml.converter import convert

    tex = re.sub(r"\\mathrm\s*\{(\w\w+)\}", r"\\text{\1}", tex.strip())
    tex = re.sub(r"\\(begin|end)\{aligned\}", r"\\\1{align*}", tex)
    made = convert(tex, display="block" if display else "inline")
    made = re.sub(
        r'<mi mathvariant="(script|double-struck)">(\w)</mi>',
        lambda match: f"<mi>{_LETTERS[match[1]][match[2]]}</mi>",
        made,
    )
    for sign, right in _SIGNS.items():
        made = made.replace(sign, right)
    made = re.sub(_FUNCTION, r'\1<mspace width="0.17em" />', made)
    made = re.sub(_FACTOR, r'\1<mspace width="0.17em" />', made)
    made = re.sub(_MINUS, r'\1<mo form="prefix">&#x02212;</mo>', made)
    made = made.replace('<mo stretchy="false">&#x0007C;</mo>', _BAR)
    return _ruled(made)


def render(page: str) -> str:
    """Replace the formulas that pymdownx.arithmatex marked in a page of HTML."""

    def replace(match: re.Match[str]) -> str:
        display = match[2].startswith(r"\[")
        formula = to_mathml(html.unescape(match[2][2:-2]), display)
        return f'<div class="formula">{formula}</div>' if display else formula

    return re.sub(r'<(span|div) class="arithmatex">(.*?)</\1>', replace, page, flags=re.S)
