"""Members with the secret that lie together."""

from __future__ import annotations

from tests.mesh.test_bad_members import SPEC, linked, mesh_of


def test_two_bad_ones_of_five_members_make_no_node_open_a_new_epoch() -> None:
    mesh = mesh_of(3, SPEC)
    mesh["A"].take("api", "k", 5)
    both = linked(mesh), linked(mesh, "worse", 2**41 + 7)
    epoch, key = mesh["A"].table.epochs.running, mesh["A"].bucket("api").hash("k")
    for step in range(10):
        for bad in both:
            bad.state("A", key, 10**9, [("A", epoch, 2**31 + step, 100, 0)])
        mesh.advance(1.0)
    assert mesh["A"].table.epochs.running == epoch
