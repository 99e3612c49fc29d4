"""headgate's benchmark: `make bench`, or `python -m bench --help`. Standard library only, apart from the
peers it starts.
"""
