"""Refiners that are none of segpipe's own."""
