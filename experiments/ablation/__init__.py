"""The paper's protocol, one factor at a time."""
