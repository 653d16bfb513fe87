"""papad, the kernel: its domain, its front doors and what holds them together in ``__main__``."""
