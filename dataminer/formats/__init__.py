"""Writers of the formats that other programs read: COCO, YOLO, the contact sheet."""
