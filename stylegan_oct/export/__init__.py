"""Samples that carry their own evidence: layouts that others' tools read, manifests, marks, hashes and a card."""
