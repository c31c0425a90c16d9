"""The local recording: sealed segments in a ring. FORMAT.md beside this file has every byte."""
