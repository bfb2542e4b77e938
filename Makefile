# make demo   install, then run all five steps on synthetic patients
# make test   install, then run the tests
# make lint   check style
# make pictures   the demo, then what the README shows (needs chromium)
# make bench  measure against the peers, write benchmarks/RESULTS.md (an hour)
# make soak   damage files, kill steps, count the tests by kind, write benchmarks/RELIABILITY.md (twenty minutes)
# make mutants   break a tenth of the code on purpose, count what the tests notice (an hour); SHARE=100 for all of it
# make weights REAL=DIR   train the weights that ship again (an hour)
PYTHON ?= python3
BIN = .venv/bin
CONF = --conf demo/lung.conf
PATIENTS ?= 16
SHARE ?= 10

REAL ?= ../shared/data
PEER = benchmarks/scratch/lungmask

.PHONY: demo test lint bench weights soak mutants pictures

.venv/installed: requirements.txt tests/requirements.txt constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.txt -r tests/requirements.txt -c constraints.txt
	touch $@

demo: .venv/installed
	$(BIN)/python config_file_create.py --demo $(PATIENTS)
	$(BIN)/python prepare_lung_image.py $(CONF)
	$(BIN)/python Lung_segmentation.py $(CONF)
	$(BIN)/python prepare_lung_image.py --test --labels demo/reference $(CONF)
	$(BIN)/python model_test.py $(CONF)
	$(BIN)/python image_test.py demo/predictions/patient_LIDC-IDRI-0032 $(CONF) --save demo/look.png
	@echo "look at demo/predictions/report.html, demo/look.png and demo/runs/lung/*.png"

# Files of tests run beside each other, each on one thread.
test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# lungmask gets an environment of its own; where it cannot be installed, its rows say so.
$(PEER)/installed:
	$(PYTHON) -m venv $(PEER)
	-$(PEER)/bin/python -m pip install --quiet "torch<2.14" lungmask && touch $@

bench: .venv/installed $(PEER)/installed
	$(BIN)/python -m benchmarks.stages
	$(BIN)/python -m benchmarks.whole_scan $$(test -f $(PEER)/installed && echo --lungmask $(abspath $(PEER))/bin/python)
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.time_to_dice --real $(REAL)
	$(BIN)/python -m benchmarks.accuracy --real $(REAL)
	$(BIN)/python -m benchmarks.flags --real $(REAL)
	$(BIN)/python -m benchmarks.diseases --real $(REAL)
	$(BIN)/python -m benchmarks.surface_nodules --real $(REAL)
	$(BIN)/python -m benchmarks.misses --real $(REAL)
	$(BIN)/python -m benchmarks.first_hour

weights: .venv/installed
	$(BIN)/python -m weights.recipe --real $(REAL)

# Thousands of damaged files, dozens of kills.
soak: .venv/installed
	PYTHONPATH=. $(BIN)/python tests/soak.py
	$(BIN)/python -m benchmarks.reliability

# cosmic-ray makes the changes; nothing else needs it.
mutants: .venv/installed
	$(BIN)/python -m pip install --quiet "cosmic-ray>=8.4"
	OMP_NUM_THREADS=1 MPLBACKEND=Agg nice $(BIN)/python -m benchmarks.mutants --share $(SHARE)

# What the README shows, made by the scripts from what `make demo` left.
pictures: demo
	cp demo/look.png pictures/prediction.png
	cp demo/runs/lung/pred_epoch_40.png pictures/epoch.png
	cp demo/runs/lung/training_and_validation_loss.png pictures/curves.png
	chromium --headless --no-sandbox --hide-scrollbars --window-size=1000,720 --virtual-time-budget=5000 \
	    --screenshot=pictures/report.png "file://$(abspath demo)/predictions/report.html#LIDC-IDRI-0062"
