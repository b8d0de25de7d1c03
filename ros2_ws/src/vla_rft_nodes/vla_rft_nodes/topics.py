"""Names of topics and services, all relative to the node's namespace."""

ROBOT_STATE = "robot_state"
JOINT_STATES = "joint_states"
TCP_POSE = "tcp_pose"
EXTERNAL_WRENCH = "external_wrench_in_world"
ACTION_CHUNK = "action_chunk"
SHADOW_CHUNK = "shadow_chunk"
"""vla_rft_interfaces/ActionChunk of a policy in shadow mode: what it would have done. Nothing acts on it."""
POLICY_REPORT = "policy_report"
CHUNK_VERDICT = "chunk_verdict"
SERVO_REPORT = "servo_report"
SAFETY_STATUS = "safety_status"
WATCHDOG = "watchdog"
HEARTBEAT = "heartbeat"
DIAGNOSTICS = "/diagnostics"
TRIAL_RESULT = "trial_result"
SCENE_OVERLAY = "scene_overlay"
"""sensor_msgs/Image: the live picture with the required start of the next trial laid over it."""
OPERATOR_KEY = "operator_key"
"""std_msgs/String: keep, discard, undo or stop, from pedals and buttons to whoever records."""
ALARM = "alarm"
"""diagnostic_msgs/DiagnosticStatus of a node whose trouble must stop the arm; counts for a second after it was said."""
SIM_TRUTH = "sim/truth"
SIM_STATE = "sim/state"

SET_MODE = "set_mode"
REARM = "rearm"
SIM_RESET = "sim/reset"
RECORD_EPISODE = "record_episode"
LABEL_EPISODE = "label_episode"
SELECT_POLICY = "select_policy"
RUN_TRIALS = "run_trials"
JUDGE_TRIAL = "judge_trial"


def color_image(camera: str) -> str:
    """Colour images of one camera."""
    return f"camera/{camera}/color/image_raw"


def color_info(camera: str) -> str:
    """Intrinsics of one camera's colour stream, with every image."""
    return f"camera/{camera}/color/camera_info"


def aligned_depth(camera: str) -> str:
    """Depth aligned to colour, of one camera."""
    return f"camera/{camera}/aligned_depth_to_color/image_raw"
