# `make` lists the targets. Each sets up what it needs first (ros2_ws/bootstrap.py), which takes no time when it is there.

SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
TRIALS ?= 3
SEED ?= 0
SHIPPED := deploy/bundles/towel_sim
STUDIED := docs/results/2026-11-30-study-3.json
POLICY ?= $(SHIPPED)
N ?= 50
OUT ?= runs/demos
DATASET ?= runs/dataset
PRESET ?= sim
STAGE := runs/stage_one
FROM ?= $(if $(wildcard $(STAGE)/policy/manifest.json),$(STAGE),vla_rft_train/checkpoints/sim)
PROTOCOL ?= launch/protocols/grasp_noise.yaml
CHECKPOINT ?= vla_rft_train/checkpoints/sim/policy
BUNDLE ?= runs/bundles/sim
NOISE ?= 0
BRANCHES ?= 4000
DATA ?= 50 simulated demonstrations: make demos N=50, exported with vla_rft_episodes export
SCALE ?= sim
EXPERIMENT ?= runs/experiment
JOBS ?= 1
OPTIONS ?=
STUDY := $(or $(STUDY),runs/trials-$(shell date +%Y%m%d-%H%M%S))
RECORD ?= false
LEROBOT := .venv-lerobot

# With a sourced /opt/ros/<distro> our interfaces are in ros2_ws/install; without, .venv is the ROS prefix and needs nothing.
RUN := $(if $(and $(ROS_DISTRO),$(AMENT_PREFIX_PATH)),source ros2_ws/install/setup.bash && )
PY := $(RUN).venv/bin/python
SETUP := $(PYTHON) ros2_ws/bootstrap.py --extra sim --extra robot --extra deploy --extra console
EXTRAS := sim,robot,train,deploy,calibration,console,dev
LOCK := import json; [print(p["name"], p["version"].split("+")[0], sep="==") for p in \
  (item["metadata"] for item in json.load(open(".venv/lock.json"))["install"]) if p["name"] != "vla-rft"]

.PHONY: help setup setup-train demo trials study demos calibration-sim world-model policy rft rft-control bundle ship experiment
.PHONY: test test-slow test-gpu faults console-walk kill-sweep fuzz soak lerobot-check loader-benchmark lint format benchmark
.PHONY: lock docs clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: ## system libraries, .venv, ROS 2, this project, our interfaces
	@$(SETUP)

demo: ## a learned policy folds towels in simulation through ROS 2 [TRIALS=3] [SEED=0] [POLICY=expert or a bundle]
	@$(SETUP)
	@$(PY) -m vla_rft_trials figures $(STUDIED)
	@$(PY) -m vla_rft_nodes.bringup demo trials:=$(TRIALS) seed:=$(SEED) policy:=$(POLICY) \
	  run_dir:=runs/demo-$$(date +%Y%m%d-%H%M%S)

trials: ## a blinded, paired study of two policies in simulation through ROS 2 [PROTOCOL=...] [STUDY=...] [RECORD=false]
	@$(SETUP)
	@$(PY) -m vla_rft_nodes.bringup evaluate unattended:=true record:=$(RECORD) \
	  protocol:=$(PROTOCOL) study:=$(STUDY) episodes:=$(STUDY)/episodes

study: ## the same without ROS, in simulated time [PROTOCOL=...] [STUDY=...]
	@$(SETUP)
	@$(PY) -m vla_rft_sim.study --protocol $(PROTOCOL) --out $(STUDY)

demos: ## N simulated demonstrations as episode files [N=50] [SEED=0] [OUT=runs/demos]
	@$(SETUP)
	@$(PY) -m vla_rft_sim.collect --count $(N) --seed $(SEED) --out $(OUT)

# What is there is gone on with or left alone: a run that was stopped is simply started again.
world-model: setup-train ## tokenizer, world model and their page, from demonstrations [OUT=runs/demos] [DATASET=runs/dataset] [BRANCHES=4000]
	@$(PY) -m vla_rft_sim.branch $(OUT) --count $(BRANCHES) --out $(STAGE)/branches
	@$(PY) -m vla_rft_sim.collect --count 20 --seed 1000 --out $(STAGE)/held-out
	@$(PY) -m vla_rft_episodes export $(STAGE)/held-out --format lerobot-v3 --fps 10 --out $(STAGE)/held-out-dataset
	@$(PY) -m vla_rft_sim.branch $(STAGE)/held-out --count 300 --twins --out $(STAGE)/held-out-branches
	@test -d $(STAGE)/tokenizer || { $(PY) -m vla_rft_train.train_tokenizer $(PRESET) --out $(STAGE)/training/tokenizer \
	  --data.dataset $(DATASET) --data.branches $(STAGE)/branches \
	  && $(PY) -m vla_rft_train.release $(STAGE)/training/tokenizer $(STAGE)/tokenizer --half; }
	@test -d $(STAGE)/world_model || { $(PY) -m vla_rft_train.train_world_model $(PRESET) --out $(STAGE)/training/world_model \
	  --tokenizer $(STAGE)/tokenizer --data.dataset $(DATASET) --data.branches $(STAGE)/branches \
	  && $(PY) -m vla_rft_train.release $(STAGE)/training/world_model $(STAGE)/world_model --half; }
	@$(PY) -m vla_rft_train.evaluate world-model $(STAGE)/world_model --tokenizer $(STAGE)/tokenizer \
	  --dataset $(STAGE)/held-out-dataset --failures $(STAGE)/held-out-branches --out $(STAGE)/evaluation \
	  --net alex --perceptual random

calibration-sim: ## calibrate imperfect simulated cells, compare with the truth [SEED=0] [SEEDS=20]
	@$(SETUP) --extra calibration
	@OMP_NUM_THREADS=1 $(PY) -m calibration.study --seed $(SEED) --seeds $(or $(SEEDS),20) \
	  --out runs/calibration-sim-$$(date +%Y%m%d-%H%M%S)

# The keypoints are the simulator's truth, for an auxiliary loss of the small policy; a robot's dataset has none.
policy: setup-train ## the flow-matching policy and its closed-loop table, from demonstrations [OUT=runs/demos] [DATASET=runs/dataset] [NOISE=0]
	@test -f $(STAGE)/keypoints.npz || { mkdir -p $(STAGE) && $(PY) -m vla_rft_sim.keypoints $(OUT) $(DATASET) --out $(STAGE)/keypoints.npz; }
	@test -d $(STAGE)/policy || { $(PY) -m vla_rft_train.train_policy $(PRESET) --out $(STAGE)/training/policy \
	  --data.dataset $(DATASET) --data.keypoints $(STAGE)/keypoints.npz \
	  && $(PY) -m vla_rft_train.release $(STAGE)/training/policy $(STAGE)/policy --half; }
	@$(PY) -m vla_rft_train.evaluate policy $(STAGE)/policy --dataset $(DATASET) --noise-scale $(NOISE) \
	  --out $(STAGE)/policy-evaluation

rft: setup-train ## fine-tune the policy inside the world model, with its page [FROM=folder of the three checkpoints] [DATASET=runs/dataset]
	@$(PY) -m vla_rft_train.rft $(PRESET) --out runs/rft/training --policy $(FROM)/policy --world-model $(FROM)/world_model \
	  --tokenizer $(FROM)/tokenizer --data.dataset $(DATASET)
	@test -d runs/rft/policy || $(PY) -m vla_rft_train.release runs/rft/training runs/rft/policy --half

# A policy whose supervised training stops after 1500 steps, before it is good.
rft-control: setup-train ## does GRPO learn at all? From a weak policy, with the one reward whose optimum is known [DATASET=runs/dataset]
	@test -f $(STAGE)/keypoints.npz || { mkdir -p $(STAGE) && $(PY) -m vla_rft_sim.keypoints $(OUT) $(DATASET) --out $(STAGE)/keypoints.npz; }
	@test -d runs/rft/weak || { $(PY) -m vla_rft_train.train_policy sim --out runs/rft/weak-training --data.dataset $(DATASET) \
	  --data.keypoints $(STAGE)/keypoints.npz --data.held-out 0.1 --loop.steps 1500 --loop.decay constant \
	  && $(PY) -m vla_rft_train.release runs/rft/weak-training runs/rft/weak; }
	@$(PY) -m vla_rft_train.rft.control sim --out runs/rft/control --policy runs/rft/weak --data.dataset $(DATASET)

bundle: setup-train ## a checkpoint as a verified bundle [CHECKPOINT=the shipped one] [BUNDLE=runs/bundles/sim] [NOISE=0]
	@test -d $(BUNDLE) || $(PY) -m deploy.export $(CHECKPOINT) $(BUNDLE) --noise-scale $(NOISE) --cell vla_rft_sim.cell:towel_cell
	@$(PY) -m deploy.verify $(BUNDLE)

# The old one stays until the new one has passed its gate.
ship: setup-train ## put a checkpoint's bundle in the place of the shipped one [CHECKPOINT=...] [NOISE=0] [DATA="a sentence"]
	@rm -rf $(SHIPPED).new
	@$(PY) -m deploy.export $(CHECKPOINT) $(SHIPPED).new --noise-scale $(NOISE) --cell vla_rft_sim.cell:towel_cell --data "$(DATA)"
	@$(PY) -m deploy.verify $(SHIPPED).new
	@rm -rf $(SHIPPED) && mv $(SHIPPED).new $(SHIPPED) && echo $(SHIPPED)

experiment: setup-train ## the paper's Table 11 in simulation, end to end [SCALE=sim] [EXPERIMENT=runs/experiment] [JOBS=1] [OPTIONS="--dry-run"]
	@OMP_NUM_THREADS=1 $(PY) -m vla_rft_train.experiment $(SCALE) --out $(EXPERIMENT) --jobs $(JOBS) $(OPTIONS)

test: lint ## lint, types, import rules and the tests that take minutes at most
	$(PY) -m pytest

test-slow: setup-dev ## the tests that take long
	$(PY) -m pytest -m slow

test-gpu: setup-dev ## the tests that need a CUDA GPU
	$(PY) -m pytest -m gpu

# FAULTS_MD=docs/faults.md writes the tables, too; FAULT_SEED and FAULT_PAIRS_SEED draw other moments and other pairs.
# Fast DDS reads its profile once per process: what is tried with another one has a process of its own.
OWN_NETWORK := tests/nodes/faults/test_network.py
faults: setup-dev ## break everything in the running graph, one by one and in random pairs; prints both tables, and what was skipped
	$(PY) -m pytest -rs $(OWN_NETWORK) -m faults
	$(PY) -m pytest -rs tests/nodes/test_faults.py tests/nodes/faults -m 'ros or faults' --ignore $(OWN_NETWORK)

fuzz: setup-dev ## altered files and messages, FUZZ_SECONDS per reader: no traceback, nothing written [FUZZ_SECONDS=300]
	FUZZ_SECONDS=$(or $(FUZZ_SECONDS),300) $(PY) -m pytest tests/test_fuzz.py

soak: setup-dev ## recorded trials through ROS for HOURS: memory, files, deadlines, records [HOURS=1]
	@$(PY) tests/soak/soak.py --hours $(or $(HOURS),1) --out runs/soak-$$(date +%Y%m%d-%H%M%S)

console-walk: setup-dev ## walk through the operator's page in a browser, and renew its screenshots (needs chromium)
	CONSOLE_SHOTS=docs $(PY) -m pytest -m slow -s tests/nodes/console

kill-sweep: setup-dev ## kill the recorder 200 times and prove that nothing is lost [KILLS=200]
	$(PY) tests/episodes/kill_sweep.py --kills $(or $(KILLS),200)

lerobot-check: $(LEROBOT)/.ready ## read a dataset with lerobot itself and compare [DATASET=runs/dataset]
	@PYTHONPATH=ros2_ws/src/vla_rft_core:ros2_ws/src/vla_rft_episodes $(LEROBOT)/bin/python \
	  tests/lerobot/check_with_lerobot.py $(DATASET)

loader-benchmark: setup-train $(LEROBOT)/.ready ## random-access samples per second, ours and lerobot's [DATASET=runs/dataset]
	@$(LEROBOT)/bin/python tests/lerobot/loader_speed.py $(DATASET) --ours \
	  "$$($(PY) -m vla_rft_train.benchmark loader --dataset $(DATASET) --json)"

$(LEROBOT)/.ready: tests/lerobot/requirements.txt
	$(PYTHON) -m venv $(LEROBOT)
	$(LEROBOT)/bin/pip install -q -r $<
	$(LEROBOT)/bin/pip install -q --no-deps lerobot==0.4.4
	@touch $@

lint: setup-dev ## ruff, mypy and the import contracts
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

format: setup-dev ## let ruff rewrite what it can
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

benchmark: setup ## real-time factor and success of the expert, as one JSON line
	@$(PY) -m vla_rft_sim benchmark --json

lock: setup-dev ## renew constraints.txt with what pip would install today
	.venv/bin/python -m pip install -q --dry-run --ignore-installed --report .venv/lock.json 'setuptools<80' -e '.[$(EXTRAS)]'
	@(sed -n '/^#/p' constraints.txt; .venv/bin/python -c '$(LOCK)' | sort -f) > .venv/lock.txt
	@mv .venv/lock.txt constraints.txt

docs: .venv-docs/.ready ## the documentation as a site, in site/; a warning is an error
	.venv-docs/bin/mkdocs build --quiet

.venv-docs/.ready: docs/requirements.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install -q -r $<
	@touch $@

clean: ## remove .venv and everything built; runs/ stays
	rm -rf .venv .setup.log ros2_ws/{build,install,log} *.egg-info .{mypy,pytest,ruff,import_linter}_cache .hypothesis

.PHONY: setup-dev
setup-dev:
	@$(SETUP) --extra dev --extra train

setup-train: ## what training needs, torch among it
	@$(SETUP) --extra train
