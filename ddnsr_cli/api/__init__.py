"""What Python programs use: `import ddnsr_cli as ddnsr` gives every public name of this room."""
