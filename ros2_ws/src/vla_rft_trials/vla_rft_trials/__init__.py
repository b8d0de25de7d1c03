"""The trial protocol: what happened in each trial, in lines that survive a crash, and how it is told.

Modules: `protocol`, `study`, `seal`, `running`, `records` (one trial), `trial_log` (all of them, on disk), `video`,
`overlay`, `contact_sheet`, `statistics`, `table`, `report`. Knows nothing of ROS, torch or an SDK; imports only
`vla_rft_core` of ours.
"""
