"""`crdtbucket demo`: three real processes, real calls, a cut and a heal, and a verdict."""
