"""Reporting: tables, figures, pictures and the page that holds them."""
