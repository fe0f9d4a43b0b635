"""scripts/bench: tokentls and its peers under the same load. tests/bench/README.md has the lay-out."""
