"""A new configuration comes into force: at once by a reload, or stage by stage."""
