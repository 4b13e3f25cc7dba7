"""Kinds of columns, one class each; those that are registered last are asked first."""

from realnvp.columns.kinds.base import Column, Feature, register_kind
from realnvp.columns.kinds.category import Category
from realnvp.columns.kinds.date import Date
from realnvp.columns.kinds.implied import Constant, Copy, Dropped
from realnvp.columns.kinds.linear import Linear
from realnvp.columns.kinds.number import Continuous
from realnvp.columns.kinds.stepped import Decimal, Integer

__all__ = [
    "Category",
    "Column",
    "Constant",
    "Continuous",
    "Copy",
    "Date",
    "Decimal",
    "Dropped",
    "Feature",
    "Integer",
    "Linear",
    "register_kind",
]

for _kind in (Continuous, Integer, Decimal, Category, Date, Linear, Copy, Constant, Dropped):
    register_kind(_kind)
