"""The parts of `ddnsr upscale`; `workflows.upscale` joins them."""
