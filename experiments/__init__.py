"""How the bundled model is made, and how docs/explanation/results.md is; no part of the installed package."""
