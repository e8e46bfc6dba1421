"""From files as devices and exporters write them to pixels: nothing else that they carry is kept."""
