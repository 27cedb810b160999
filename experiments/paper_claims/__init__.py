"""The paper's claims beside what is measured here."""
