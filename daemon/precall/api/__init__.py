"""Everything HTTP: who may ask what, how it is asked and answered. What is answered is decided elsewhere."""
