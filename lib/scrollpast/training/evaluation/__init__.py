"""How good the towers are on days that came after those they were trained on."""
