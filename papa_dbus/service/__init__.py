"""papad, the kernel: its domain, its front ends and what holds them together in ``__main__``."""
