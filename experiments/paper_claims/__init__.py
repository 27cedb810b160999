"""The paper's claims, compared with measurements of this repository."""
