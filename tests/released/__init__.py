"""The released models, written anew from their definitions: state dicts by key list, and plain functions that run them.

Nothing here uses the package, so that no mistake can be shared with it.
"""
