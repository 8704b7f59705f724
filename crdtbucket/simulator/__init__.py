"""Accuracy of a limit over regions: scenarios, measures, baselines, reports."""
