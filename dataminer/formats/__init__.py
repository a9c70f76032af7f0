"""Files that other programs read: COCO, YOLO, the contact sheet."""
