# make demo   install, then run all five steps on synthetic patients
# make test   install, then run the tests
# make lint   check style
PYTHON ?= python3
BIN = .venv/bin
CONF = --conf demo/lung.conf
PATIENTS ?= 16

.PHONY: demo test lint pictures

.venv/installed: requirements.txt tests/requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.txt -r tests/requirements.txt
	touch $@

demo: .venv/installed
	$(BIN)/python config_file_create.py --demo $(PATIENTS) $(CONF)
	$(BIN)/python prepare_lung_image.py $(CONF)
	$(BIN)/python Lung_segmentation.py $(CONF)
	$(BIN)/python prepare_lung_image.py --test --labels demo/reference $(CONF)
	$(BIN)/python model_test.py $(CONF)
	$(BIN)/python image_test.py demo/predictions/patient_LIDC-IDRI-0032 $(CONF) --save demo/look.png
	@echo "look at demo/look.png, demo/runs/lung/*.png and demo/predictions/patient_*/*.png"

test: .venv/installed
	$(BIN)/python -m pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# What the README shows, made by the scripts from what `make demo` left.
pictures: demo
	cp demo/look.png pictures/prediction.png
	cp demo/runs/lung/pred_epoch_40.png pictures/epoch.png
	cp demo/runs/lung/training_and_validation_loss.png pictures/curves.png
