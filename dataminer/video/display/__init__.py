"""From stored frames to what players show: cropped, with square pixels, turned."""
