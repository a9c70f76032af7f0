"""What files of each container declare about their own structure, read without libav.

The readers are small, and read a bounded number of bytes: files may be hostile.
"""
