"""The parts of `benches/compare/run`; start reading there."""
