"""stub"""


def export_run(*a): ...
