"""The protocol of one node as a pure machine: frames and times go in, frames come out."""
