"""What trials can and cannot say: intervals, comparisons, times, stopping early, and what n could ever detect.

Pure functions of counts and times. scipy and statsmodels wherever they have it; `sequential` is our own derivation.
"""
