"""Judging answers, and the statistics that go with every number."""
