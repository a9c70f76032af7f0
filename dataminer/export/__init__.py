"""What a dataset is written as: COCO, YOLO, a contact sheet."""
