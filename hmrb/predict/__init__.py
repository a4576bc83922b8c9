"""A picture in, bodies out: inputs, boxes, crops, the network, results in the picture's frame, their files."""
