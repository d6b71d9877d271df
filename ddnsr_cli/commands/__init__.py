"""One public function per command; no terminal here."""
