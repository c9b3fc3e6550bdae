"""Kinds of columns, as people see them."""
