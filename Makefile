# muon.c: `make help` lists targets and variables.

CC     ?= cc
CFLAGS ?= -O2 -ftree-vectorize -g   # as fast as -O3 here, and compiled in two thirds of its time
MARCH  ?=                        # such as -march=native; the matrix kernels choose their instruction set at run time anyway

comma := ,
space := $() $()
# Every variable that a command line may have. What a user gives to TAKEN reaches the shell as it was typed, `costs $5 at $HOME`
# too, which make would expand: recipes have it as "$$PROMPT". NAME isn't taken from the environment, where some systems keep
# the machine's name. TOOLS are usual on make's command line, and none is needed here.
TAKEN := CONFIG DATA TOKENIZER VOCAB DOCUMENTS EXT SHARDS MINUTES TOKENS PARAMS OUT ARGS STEPS SEED RUN RUNS RUNS_DIR PROMPT A B C D CONFIGS SEEDS GRID \
    RANDOM BUDGET QUICK KEEP DRAW DATA_ROOT PARSER FORMAT TYPE FROM RANKS PREFIX DESTDIR
TOOLS := AR ARFLAGS AS CPP CXXFLAGS LD NM OBJCOPY PKG_CONFIG RANLIB STRIP
KNOWN := $(TAKEN) NAME BUILD TRAINER SAN V MPI CC CFLAGS CPPFLAGS LDFLAGS LDLIBS MARCH CXX SHELL MAKE MAKEFLAGS DATA_MIRROR DATA_URL GEMM_ISA \
    $(TOOLS) MUON_FONT MUON_VENV WIDTHS OMP_% GOMP_% KMP_% %SAN_OPTIONS %_proxy LANG LC_% HOME PATH TMPDIR
given    = $(filter command $(2),$(firstword $(origin $(1))))
UNKNOWN := $(strip $(foreach v,$(filter-out $(KNOWN),$(.VARIABLES)),$(if $(call given,$(v)),$(v))))
ifneq ($(UNKNOWN),)             # another project's make may pass on what is only its own
$(if $(filter 0,$(MAKELEVEL)),$(error $(shell dev/unknown.sh "$(UNKNOWN)" $(KNOWN))),$(warning not used here: $(UNKNOWN)))
endif
# What of TAKEN a target uses, beside RUNS_DIR and DATA_ROOT. What no goal uses is refused: it would change nothing.
TEXT := CONFIG DATA TOKENIZER VOCAB DOCUMENTS EXT SHARDS
USES_train     := $(TEXT) MINUTES TOKENS PARAMS STEPS SEED QUICK RANKS ARGS
USES_data      := $(TEXT)
USES_tokenizer := $(filter-out TOKENIZER,$(TEXT)) OUT
USES_ab         = A B C D CONFIGS DATA $(if $(DATA),TOKENIZER VOCAB) DOCUMENTS EXT SHARDS SEED SEEDS STEPS QUICK OUT ARGS
USES_sweep     := $(TEXT) GRID SEED SEEDS RANDOM BUDGET STEPS QUICK OUT ARGS
USES_sample    := RUN PROMPT SEED ARGS
USES_attention := RUN PROMPT OUT ARGS
USES_eval      := RUN DATA ARGS
USES_export    := RUN FORMAT TYPE OUT ARGS
USES_import    := FROM OUT ARGS
USES_plot      := RUN RUNS OUT ARGS
USES_watch     := RUNS OUT ARGS
USES_tensorboard := RUN OUT ARGS
USES_fuzz      := PARSER RUNS ARGS
USES_pictures  := OUT KEEP
$(foreach t,install install-libmuon uninstall,$(eval USES_$(t) := PREFIX DESTDIR))
USES_study    := NAME $(if $(filter dial,$(NAME)),MINUTES) QUICK KEEP DRAW OUT SEEDS
USES_bench-ranks := ARGS
$(foreach t,bench bench-torch bench-muon bench-tokenizer,$(eval USES_$(t) := KEEP ARGS))
GOALS    := $(or $(MAKECMDGOALS),all)
USED     := RUNS_DIR DATA_ROOT $(foreach g,$(GOALS),$(USES_$(g)))
UNUSED   := $(strip $(foreach v,$(filter-out $(USED),$(TAKEN) NAME),$(if $(call given,$(v)),$(v))))
users     = $(subst $(space),$(comma) ,$(strip $(foreach u,$(sort $(filter USES_%,$(.VARIABLES))),$(if $(filter $(1),$($(u))),$(u:USES_%=%)))))
HINT_RUN := ; train names its folder by ARGS="--run.dir=FOLDER"
ifneq ($(UNUSED),)
$(if $(filter 0,$(MAKELEVEL)),$(error $(foreach v,$(firstword $(UNUSED)),$(v): not used by make $(GOALS)$(comma) but by $(call users,$(v))$(HINT_$(v)))),$(warning not used here: $(UNUSED)))
endif
VOCAB_GIVEN := $(call given,VOCAB)
# One dial: what it is turned to, for build/plan.
DIAL := $(if $(MINUTES),--minutes="$$MINUTES") $(if $(TOKENS),--tokens="$$TOKENS") $(if $(PARAMS),--params="$$PARAMS")
DIAL := $(strip $(DIAL))
ifneq ($(DIAL),)
$(foreach v,CONFIG RANKS QUICK,$(if $(call given,$(v)),$(error $(v): not beside MINUTES$(comma) TOKENS or PARAMS$(comma) which choose the config)))
endif
# A switch is off where it is 0, too. A list is words as a shell reads them, or the name of one thing as it stands.
$(foreach v,QUICK KEEP DRAW SAN V,$(if $(filter 0,$($(v))),$(eval override export $(v) :=)))
quoted = '$(subst ','\'',$(1))'
$(foreach v,$(filter RUNS CONFIGS ARGS,$(USED)),$(if $(call given,$(v),environment),$(if $(shell [ -e $(call quoted,$(value $(v))) ] || \
    sh -nc $(call quoted,set -- $(value $(v))) 2>&1),$(error $(v)=$(value $(v)): words as a shell reads them expected$(comma) quotes in pairs))))
$(if $(and $(filter plot,$(GOALS)),$(call given,RUN,environment),$(call given,RUNS,environment)),$(error RUN and RUNS: one of the two expected))
ifneq ($(and $(filter fuzz,$(GOALS)),$(if $(RUNS),given)),)
$(if $(shell echo $(call quoted,$(value RUNS)) | grep -x '[0-9]*'),,$(error RUNS=$(value RUNS): the number of inputs expected))
endif
$(foreach v,$(TAKEN),$(if $(call given,$(v),environment),$(eval override export $(v) := $$(value $(v)))))

CONFIG ?= configs/default.json
TOKENIZER ?= $(if $(VOCAB_GIVEN),bpe)
VOCAB  ?= 4096
RUNS_DIR ?= runs
PREFIX ?= /usr/local
# Arms of ab, the first is what the others are compared with; QUICK=1 makes a training tiny.
A      ?= configs/default_adamw.json
B      ?= configs/default.json
SEEDS  ?= $(or $(SEED),1)
GRID   ?= optimizer.muon.lr=0.0025,0.005,0.01
NAME    =
PARSER ?= config
QUICK_ARGS = --train.steps=20 --train.batch=4 --train.eval_every=5 --train.eval_tokens=4096 --train.final_eval_tokens=4096 --train.save_every=0

# What is built and prepared: build, or a folder of the user's own where this one may only be read. make can't have a blank in
# the name of a target.
BUILD := build
ifneq ($(words $(BUILD)),1)
$(error BUILD=$(BUILD): a folder without blanks in its name expected)
endif
DATA_ROOT ?= $(BUILD)/data
# SAN=1: AddressSanitizer and UndefinedBehaviorSanitizer, in a build folder of their own.
ifdef SAN
UNSANITIZED := dev/test/test_make.c dev/test/test_install.c    # they run make and the compiler, with other flags
override BUILD := $(BUILD)/san
CFLAGS := -Og -g1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
endif
TRAINER := $(if $(filter build,$(BUILD)),.,$(BUILD))/train_gpt
# Ranks: train_gpt_mpi, built with Open MPI (MPI=1), or train_gpt_mpich.
MPI_LIBRARY := $(if $(filter mpich,$(MPI)),mpich,openmpi)
$(if $(filter-out 0 1 openmpi mpich,$(MPI)),$(error MPI=$(MPI): openmpi or mpich, or 1, expected))
$(if $(RANKS),$(if $(shell echo $(call quoted,$(value RANKS)) | grep -x '[1-9][0-9]*'),,$(error RANKS=$(value RANKS): the number of ranks$(comma) at least 1$(comma) is expected)))
WITH_RANKS := $(or $(RANKS),$(filter-out 0,$(MPI)))
RANKED  := $(TRAINER)_$(if $(filter mpich,$(MPI)),mpich,mpi)
# Looked for by the shell that calls it: dev/setup.sh may install it just before.
MPICC   := $$(command -v mpicc.$(MPI_LIBRARY) || echo mpicc)
export CONFIG DATA TOKENIZER VOCAB MINUTES TOKENS PARAMS RUNS_DIR A B GRID BUILD TRAINER PARSER PREFIX
ifneq ($(DATA_ROOT),build/data)
export DATA_ROOT                # the programs look there for what a config has in build/data
endif
Q := $(if $(V),,@)

OPENMP   := $(shell dev/openmp.sh $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS))
FLAGS     = -std=gnu11 -Wall -Wextra -Wshadow -fno-math-errno -fno-trapping-math $(OPENMP) $(MARCH)
# NaN must be NaN and sums keep their order: what -ffast-math and its parts allow is taken back behind all flags. -Ofast, too, would
# link the code that flushes denormals to zero.
FAST     := $(filter -Ofast -ffast-math -funsafe-math-optimizations -ffinite-math-only -fassociative-math -freciprocal-math \
    -fno-signed-zeros -ffp-model=fast,$(CC) $(CPPFLAGS) $(MARCH) $(CFLAGS) $(LDFLAGS) $(LDLIBS))
EXACT    := $(if $(FAST),$(if $(filter -Ofast,$(FAST)),-O3) -fno-fast-math -fno-unsafe-math-optimizations -fno-finite-math-only \
    -fno-associative-math -fno-reciprocal-math -fsigned-zeros -fno-math-errno -fno-trapping-math)
LIBS      = -lcjson -lpcre2-8 -lutf8proc -lz -lm
HEADERS  := muon.h $(wildcard src/*.h data/*.h)
MUON_VERSION := $(shell sed -n 's/^#define MUON_VERSION "\(.*\)"/\1/p' muon.h)
SONAME   := libmuon.so.$(firstword $(subst ., ,$(MUON_VERSION)))
TESTS    := $(BUILD)/test_gpt $(patsubst dev/test/%.c,$(BUILD)/%,$(filter-out $(UNSANITIZED),$(wildcard dev/test/test_*.c))) $(BUILD)/fuzz
OF_RUNS  := $(patsubst %,$(BUILD)/test_%,gpt export import data)      # they write into the same folders of build/test

STUDIES  := $(patsubst dev/exp/%/run.sh,%,$(wildcard dev/exp/*/run.sh))
PROGRAMS_OF_STUDIES := $(foreach s,$(STUDIES),$(if $(wildcard dev/exp/$(s)/$(s).c),$(BUILD)/study_$(s)))
ifdef NAME
$(if $(and $(filter 1,$(words $(NAME))),$(filter $(STUDIES),$(NAME))),,$(error NAME=$(NAME): no such study, `make study` lists them))
ifdef DRAW                      # from its tables, which not every study's picture is
DRAWN := $(patsubst dev/exp/%/,%,$(dir $(shell grep -l lab_draws_again dev/exp/*/*.c)))
$(if $(filter $(NAME),$(DRAWN)),,$(error DRAW=1: $(NAME) has to be run for its picture; drawn from tables: $(subst $(space),$(comma) ,$(strip $(DRAWN)))))
else
NEEDS := $(shell sed -n 's/^# needs: //p' dev/exp/$(NAME)/run.sh)
endif
STUDY_NEEDS := $(filter %/study_$(NAME),$(PROGRAMS_OF_STUDIES)) $(patsubst %,$(BUILD)/%,$(filter-out trainer,$(NEEDS))) $(if $(filter ab plan trainer,$(NEEDS)),$(TRAINER))
STUDY_OUT := $(if $(QUICK),$(BUILD)/study/$(NAME),$(if $(KEEP),dev/exp,$(BUILD)/study)/$(NAME))
endif

GPT      := tools/gpt.h train_gpt.c $(HEADERS) $(BUILD)/commit.h

# $(call compile,SOURCE): programs that include train_gpt.c, and only they, may leave functions of it unused.
compile = $(call compile_by,$(CC),$(1),$(2),$(3))
compile_by = @mkdir -p $(@D); echo "CC $@"; $(if $(V),set -x;) $(1) $(CPPFLAGS) $(FLAGS) $(3) $(CFLAGS) $(2) -o $@ $(LDFLAGS) $(LIBS) $(4) $(LDLIBS) $(EXACT)

.PHONY: all programs train data tokenizer test test-ranks fuzz ab sweep sample eval attention export import plot watch tensorboard pictures bench bench-torch bench-muon bench-tokenizer bench-ranks study libmuon install install-libmuon uninstall dist help clean distclean setup commit
.DEFAULT_GOAL := all

all: $(TRAINER) $(if $(WITH_RANKS),$(RANKED)) $(BUILD)/tokenize $(BUILD)/generate $(BUILD)/plot ## build the programs; MPI=1: train_gpt_mpi, too (MPI=mpich: train_gpt_mpich)

train: all $(if $(DIAL),$(BUILD)/plan,data)                  ## train CONFIG on its data or on DATA (kjv, gcide, ..., path.txt, folder/), STEPS=100 SEED=2 RANKS=4, with ARGS; or the best model of MINUTES=10, TOKENS=20M or PARAMS=2M (ARGS=--plan only says which)
	$(Q)$(if $(DIAL),$(BUILD)/plan $(DIAL) --data="$${DATA:-kjv}" $(if $(TOKENIZER),--tokenizer="$$TOKENIZER") $(if $(VOCAB_GIVEN),--vocab="$$VOCAB"),\
	    $(if $(RANKS),dev/ranks.sh "$$RANKS" $(MPI_LIBRARY) $(RANKED),$(TRAINER)) "$$CONFIG" $(ON_DATA)) \
	    $(KEYS) $(if $(SEED),--run.seed="$$SEED") $(ARGS)

data: $(BUILD)/tokenize | setup                          ## prepare the shards and the tokenizer of DATA (TOKENIZER=char|byte|bpe|gpt2|FILE, VOCAB=4096) under build/data
	$(Q)$(PREPARE) "$(CORPUS)" "$$TOKENIZER"

tokenizer: $(BUILD)/tokenize | setup                     ## train a byte-pair encoding of VOCAB tokens on DATA, into OUT=tok.json (build/data/NAME-bpeVOCAB.json)
	$(Q)$(PREPARE) --tokenizer "$(CORPUS)" "$$OUT"

# The corpus: DATA, else the one that the config names by its folder; any other folder is the user's own and must be there.
PREPARE = data/prepare.sh
CORPUS  = $(if $(DATA),$$DATA,--config=$$CONFIG)
ON_DATA = $(if $(DATA)$(TOKENIZER),--data.dir="$$($(PREPARE) --folder "$(CORPUS)" "$$TOKENIZER")")
KEYS    = $(if $(QUICK),$(QUICK_ARGS)) $(if $(STEPS),--train.steps="$$STEPS")

# $(call as_words,RUNS): a list's words become the shell's arguments. They are read as a shell reads them, with quotes where a name has
# blanks; a list that is the name of one thing as it stands is that.
as_words = if [ -e "$$$(1)" ]; then set -- "$$$(1)"; else eval "set -- $$$(1)"; fi
# Sets the shell's run: RUN, or the one that was saved last.
RUN_OR_LAST = run=$$RUN; if [ -z "$$run" ]; then run=$$(ls -t "$$RUNS_DIR"/*/checkpoint.bin 2>/dev/null | head -n 1); run=$${run%/checkpoint.bin}; fi; \
    [ -n "$$run" ] || { echo "error: no run in $$RUNS_DIR yet: \`make train\` makes one, RUN=FOLDER names another" >&2; exit 2; }

MODEL_TOOLS := $(addprefix $(BUILD)/,generate eval attention export import plan logits)
TESTED := $(TESTS) $(TRAINER) $(MODEL_TOOLS) $(addprefix $(BUILD)/,tokenize plot watch tensorboard ab chart)
programs: $(TESTED) $(BUILD)/pictures $(BUILD)/bench $(BUILD)/bench_muon $(BUILD)/bench_tokenizer $(PROGRAMS_OF_STUDIES)

test: $(TESTED)                                          ## run every test; SAN=1: under the sanitizers
	$(Q)BUILD=$(BUILD) TRAINER=$(TRAINER) dev/test/run.sh "$(OF_RUNS)" $(BUILD)/test_run $(filter-out $(OF_RUNS) $(BUILD)/test_run,$(TESTS))

test-ranks: $(TRAINER) $(RANKED) $(BUILD)/tokenize $(BUILD)/ranks    ## run the tests of several ranks; MPI=openmpi|mpich
	$(Q)BUILD=$(BUILD) TRAINER=$(TRAINER) RANKED=$(RANKED) MPI=$(MPI_LIBRARY) dev/test/run.sh $(BUILD)/ranks

# Without trace-cmp, which would take two thirds of the time: the corpus has the magic words.
# New inputs that reach other code are kept in build/fuzz_found/PARSER, one that fails beside it as PARSER-crash-...
fuzz: $(BUILD)/libfuzzer                                 ## try RUNS=1000000 inputs on a PARSER=config, found by clang's libFuzzer
	$(Q)found="$(BUILD)/fuzz_found/$$PARSER"; mkdir -p "$$found" && PARSER="$$PARSER" $(BUILD)/libfuzzer -runs=$(or $(RUNS),1000000) -max_len=4096 \
	    -artifact_prefix="$$found-" -print_final_stats=1 $(ARGS) "$$found" "dev/test/fuzz_corpus/$$PARSER"

ab: all $(BUILD)/ab | setup                              ## compare A=configs/x.json B=configs/y.json (or CONFIGS="..."), SEEDS="1 2 3", ARGS="--budgets=0.5,1,2"
	$(Q)$(if $(CONFIGS),$(call as_words,CONFIGS),set -- "$$A" "$$B" $(if $(C),"$$C") $(if $(D),"$$D")); for arm; do \
	    config=$${arm%%,--*}; [ -e "$$config" ] || config=$${config#*=}; \
	    $(PREPARE) $(if $(DATA),"$$DATA" "$$TOKENIZER","--config=$$config") || exit; done; \
	$(BUILD)/ab "$$@" $(if $(DATA),$(ON_DATA)) --trainer=$(TRAINER) --seeds="$(SEEDS)" $(if $(OUT),--out="$$OUT") $(KEYS) $(ARGS)

sweep: all $(BUILD)/ab data                              ## train CONFIG over GRID="optimizer.muon.lr=0.005,0.01,0.02", SEEDS="1", RANDOM=20, BUDGET=0.5, ARGS="--extend"
	$(Q)$(BUILD)/ab sweep "$$CONFIG" $(ON_DATA) --trainer=$(TRAINER) --grid="$$GRID" --seeds="$(SEEDS)" $(if $(OUT),--out="$$OUT") \
	    $(if $(RANDOM),--random=$(RANDOM)) $(if $(BUDGET),--budget=$(BUDGET)) $(KEYS) $(ARGS)

sample: $(BUILD)/generate                                ## write text with a RUN's model, the last one's: PROMPT="In the beginning" ARGS="--temperature=0.8 --top_k=20"
	$(Q)$(RUN_OR_LAST); $(BUILD)/generate "$$run" $(if $(PROMPT),--prompt="$$PROMPT") $(if $(SEED),--seed="$$SEED") $(ARGS)

eval: $(BUILD)/eval                                      ## how well a RUN's model predicts the text in the file DATA, or answers the questions of a .jsonl; ARGS="--window=256 --stride=128 --json"
	$(Q)$(RUN_OR_LAST); $(BUILD)/eval "$$run" $(if $(DATA),"$$DATA") $(ARGS)

attention: $(BUILD)/attention                            ## draw where the heads of a RUN's model look when it reads PROMPT="In the beginning"
	$(Q)$(RUN_OR_LAST); $(BUILD)/attention "$$run" $(if $(PROMPT),--prompt="$$PROMPT") $(if $(OUT),--out="$$OUT") $(ARGS)

export: $(BUILD)/export                                  ## take a RUN's model, the last one's, to other programs: FORMAT=hf|gguf|llmc TYPE=f32|bf16|f16, into OUT
	$(Q)$(RUN_OR_LAST); $(BUILD)/export "$$run" $(if $(FORMAT),--format="$$FORMAT") $(if $(TYPE),--type="$$TYPE") $(if $(OUT),--out="$$OUT") $(ARGS)

import: $(BUILD)/import                                  ## make a run of FROM, a Hugging Face folder, a GGUF file or llm.c's model.bin: OUT=runs/x
	$(Q)[ -n "$$FROM" ] || { echo "error: FROM=FOLDER: a folder with config.json and model.safetensors, a GGUF file, or llm.c's model.bin, is expected" >&2; exit 2; }; \
	$(BUILD)/import "$$FROM" $(if $(OUT),--out="$$OUT") $(ARGS)

plot: $(BUILD)/plot                                      ## draw the losses of RUNS="runs/a runs/b" in one picture
	$(Q)$(if $(RUNS),$(call as_words,RUNS),$(RUN_OR_LAST); set -- "$$run"); $(BUILD)/plot "$$@" $(if $(OUT),--out="$$OUT") $(ARGS)

watch: $(BUILD)/watch                                    ## show the runs of RUNS_DIR, or of RUNS="runs/a runs/b", in a browser while they train: http://127.0.0.1:8765; ARGS="--port=8080"
	$(Q)dev/setup.sh watch && $(if $(RUNS),$(call as_words,RUNS),mkdir -p "$$RUNS_DIR" && set -- "$$RUNS_DIR") && \
	exec $(BUILD)/watch "$$@" $(if $(OUT),--out="$$OUT") $(ARGS)

tensorboard: $(BUILD)/tensorboard                        ## write a RUN's log, the last one's, as event files that tensorboard --logdir=RUN shows
	$(Q)$(RUN_OR_LAST); $(BUILD)/tensorboard "$$run" $(if $(OUT),--out="$$OUT") $(ARGS)

pictures: $(BUILD)/pictures                              ## draw the teaching pictures of muon.h into build/study; KEEP=1: into dev/exp
	$(Q)out=$${OUT:-$(if $(KEEP),dev/exp,$(BUILD)/study)} && mkdir -p "$$out" && $(BUILD)/pictures "$$out"

bench: $(BUILD)/bench                                    ## measure peaks, products, attention, training steps and their passes; ARGS="train passes -q"; KEEP=1: a whole run into dev/bench/results
	$(Q)dev/bench/bench.sh $(BUILD) $(ARGS)

bench-torch: $(BUILD)/bench                              ## the same training steps and products by PyTorch, side by side
	$(Q)dev/bench/torch.sh $(ARGS)

bench-muon: $(BUILD)/bench $(BUILD)/bench_muon           ## one optimizer step of every rule, beside PyTorch's where it is there; ARGS="-q"
	$(Q)dev/bench/muon.sh $(BUILD) $(ARGS)

bench-tokenizer: $(BUILD)/bench $(BUILD)/bench_tokenizer  ## byte-pair encoding: training and encoding beside PyPI's tokenizers and tiktoken
	$(Q)dev/bench/tokenizer.sh $(BUILD) $(ARGS)

bench-ranks: all                                         ## what ranks cost: speed, bytes, slow networks, 124M on N nodes; ARGS=speed|plan|loss
	$(Q)dev/bench/ranks.sh $(ARGS)

study: $(STUDY_NEEDS)                                    ## re-measure a claim of the literature: NAME=tail-memory QUICK=1; results in build/study, KEEP=1: in dev/exp; DRAW=1: only their picture again; without NAME: the list
	$(Q)minutes() { sed -n 's/^# minutes: //p' "dev/exp/$$1/run.sh"; }; \
	$(if $(NAME),out=$${OUT:-$(STUDY_OUT)} && mkdir -p "$$out" && \
	    $(if $(DRAW),$(BUILD)/study_$(NAME) "$$out" draw && echo "drawn again from its tables: $$out/$(NAME).png", \
	    echo "$(NAME): $(if $(QUICK),the short form$(comma) a minute at most,about $$(minutes $(NAME)) minutes; QUICK=1: one at most); results: $$out" && \
	    QUICK=$(QUICK) OUT="$$out" dev/exp/$(NAME)/run.sh), \
	for s in $(STUDIES); do printf '  %-14s %3d min  %s\n' "$$s" "$$(minutes $$s)" "$$(sed -n '1s/^# //p' dev/exp/$$s/README.md)"; done)

libmuon: $(BUILD)/libmuon.so                             ## muon.h as a shared library, build/libmuon.so, for C programs and for tools/python/muon_c.py; needs a C compiler only

install: $(TRAINER) $(BUILD)/libmuon.so $(BUILD)/train_gpt.1    ## put train_gpt, its manual page, muon.h, gemm.h, libmuon.so and muon.pc into PREFIX=/usr/local, behind DESTDIR= if given
	$(Q)VERSION=$(MUON_VERSION) dev/install.sh install libmuon trainer

install-libmuon: $(BUILD)/libmuon.so                     ## of these only the library and its headers
	$(Q)VERSION=$(MUON_VERSION) dev/install.sh install libmuon

uninstall:                                               ## take all of it away again
	$(Q)dev/install.sh uninstall

dist:                                                    ## make build/muon.c-VERSION.tar.gz of the last commit, the same bytes each time
	$(Q)dev/dist.sh

# Variables, as `make help` shows them:
#   CONFIG=FILE.json         what is trained (configs/default.json)
#   MINUTES=10              what train may take, everything included: it chooses the model; or TOKENS=20M of training, or PARAMS=2M
#   DATA= TOKENIZER= VOCAB=  the text and what its tokens are; also DOCUMENTS= EXT= of data/tokenize.c, SHARDS=
#   STEPS= SEED= ARGS="..."  train.steps, run.seed (of sample its --seed) and any other key or flag of the program: ARGS="--train.batch=8"
#   PARSER=config           what fuzz tries: config, checkpoint, safetensors, shard, tokenizer, merges, log, picture, text, report, gguf
#   FORMAT=hf TYPE=f32       what export writes: hf, gguf, llmc; f32, bf16, f16
#   FROM=FOLDER              what import reads, for a run's folder OUT
#   RUN= RUNS="..." OUT=     folders of runs, a file or a folder for results; quote names with blanks within a list
#   QUICK=1 KEEP=1 DRAW=1    a tiny form of train, ab, sweep, study; results of study, bench, pictures into dev/; see study
#   RUNS_DIR=$HOME/runs BUILD=$HOME/build      runs, and what is built and prepared, somewhere else: one source tree for many users
#   PREFIX= DESTDIR=         where install puts things, as programs will see it, and a folder in front of that while a package is made
#   CC= CFLAGS= CPPFLAGS= LDFLAGS= LDLIBS= MARCH=-march=native SAN=1 V=1       the compiler's; sanitizers; show commands
help:                                                    ## this list
	@echo "make TARGET [VARIABLE=value ...]"; sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS='|' read -r a b; do printf '  %-15s %s\n' "$$a" "$$b"; done; \
	echo; sed -n 's/^#   \([A-Z]\)/  \1/p' $(firstword $(MAKEFILE_LIST))

clean:                                                   ## remove what was built; prepared data, PyTorch and runs stay
	$(Q)$(OWN_BUILD) find build -mindepth 1 -maxdepth 1 ! -name data ! -name venv -exec rm -rf {} + 2>/dev/null; rm -f train_gpt train_gpt_mpi train_gpt_mpich

distclean: clean                                         ## remove these too, but no runs
	$(Q)$(OWN_BUILD) rm -rf build

OWN_BUILD = $(if $(filter build build/san,$(BUILD)),,echo "error: BUILD=$(BUILD): not the project's own folder: remove it yourself" >&2; exit 2;)

setup: export CC := $(CC)
setup: export CFLAGS := $(CFLAGS)
setup: export CPPFLAGS := $(CPPFLAGS)
setup: export LDFLAGS := $(LDFLAGS)
setup: export LDLIBS := $(LDLIBS)
setup:
	$(Q)dev/setup.sh build

# The commit is part of every run's log; the file changes, and the trainer is built anew, only when the commit does. A repository
# around a tarball's folder isn't the project's. Where build may only be read, what was built stays as it is.
$(BUILD)/commit.h: commit
	@c=unknown; if [ -z "$$(git rev-parse --show-prefix 2>/dev/null)" ] && d=$$(git describe --always --exclude '*' 2>/dev/null); then \
	    c=$$d; git diff --quiet HEAD -- '*.c' '*.h' Makefile 2>/dev/null || c=$$d-changed; fi; \
	line="#define MUON_C_COMMIT \"$$c\""; [ "$$(cat $@ 2>/dev/null)" = "$$line" ] || \
	{ mkdir -p $(@D) && echo "$$line" > $@.$$$$ && mv $@.$$$$ $@; } 2>/dev/null || [ -e $@ ] || \
	{ echo "error: $(BUILD) cannot be written; make BUILD=FOLDER RUNS_DIR=FOLDER puts everything elsewhere" >&2; exit 1; }

$(TRAINER): train_gpt.c $(HEADERS) $(BUILD)/commit.h | setup
	$(call compile,$<,-include $(BUILD)/commit.h)
# The wrapper's own compiler is CC, too. MPICH's MPI_STATUSES_IGNORE looks to gcc like an array that is too small.
$(RANKED): train_gpt.c $(HEADERS) $(BUILD)/commit.h | setup
	$(Q)dev/setup.sh $(MPI_LIBRARY)
	$(call compile_by,OMPI_CC="$(CC)" MPICH_CC="$(CC)" $(MPICC),$<,-include $(BUILD)/commit.h -DMUON_MPI -Wno-stringop-overflow)
$(BUILD)/test_gpt: test_gpt.c dev/test/test.h dev/test/train.h $(GPT) | setup
	$(call compile,$<,-include $(BUILD)/commit.h -Wno-unused-function)
# One program by seven names; see there.
$(BUILD)/model_tools: tools/model_tools.c dev/golden/logits.c data/bpe.h $(wildcard tools/*.[ch]) $(GPT) | setup
	$(call compile,$<,-include $(BUILD)/commit.h -Wno-unused-function)
$(MODEL_TOOLS): $(BUILD)/model_tools
	@ln -sf model_tools $@
$(BUILD)/plot: tools/plot.c $(HEADERS) | setup
	$(call compile,$<)
$(BUILD)/watch: tools/watch.c tools/serve.h tools/watch_run.h $(HEADERS) | setup
	$(call compile,$<)
$(BUILD)/tensorboard: tools/tensorboard.c tools/tfevents.h $(HEADERS) | setup
	$(call compile,$<)
$(BUILD)/ab: tools/ab.c $(wildcard tools/*.h) $(HEADERS) | setup
	$(call compile,$<)
$(BUILD)/tokenize: data/tokenize.c $(HEADERS) | setup
	$(call compile,$<)
$(BUILD)/bench: dev/bench/bench.c dev/bench/table.h $(GPT) | setup
	$(call compile,$<,-include $(BUILD)/commit.h -Wno-unused-function,-ldl)
$(BUILD)/bench_muon: dev/bench/bench_muon.c dev/bench/table.h $(GPT) | setup
	$(call compile,$<,-include $(BUILD)/commit.h -Wno-unused-function)
$(BUILD)/bench_tokenizer: dev/bench/bench_tokenizer.c $(HEADERS) | setup
	$(call compile,$<)
$(BUILD)/fuzz: dev/test/fuzz.c $(wildcard dev/test/*.h tools/*.h) data/tokenize.c tools/ab.c $(HEADERS) | setup
	$(call compile,$<,-Wno-unused-function)
$(BUILD)/libfuzzer: dev/test/fuzz.c $(wildcard dev/test/*.h tools/*.h) data/tokenize.c tools/ab.c $(HEADERS) | setup
	$(Q)dev/setup.sh fuzz
	@mkdir -p $(@D); echo "CC $@"; clang $(CPPFLAGS) -std=gnu11 -Wall -Wextra -Wshadow -Wno-unused-function -fopenmp-simd -O2 -g -fno-omit-frame-pointer \
	    -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -fno-sanitize-coverage=trace-cmp -DLIBFUZZER $< -o $@ $(LDFLAGS) $(LIBS) $(LDLIBS)
$(BUILD)/chart: dev/exp/chart.c $(HEADERS) | setup
	$(call compile,$<)
$(BUILD)/pictures: dev/exp/pictures.c $(HEADERS) | setup
	$(call compile,$<)
# The library depends on none of the packages; its functions keep the names it was compiled with, whatever a program that loads it has.
$(BUILD)/libmuon.so: LIBS = -lm
$(BUILD)/libmuon.so: src/libmuon.c src/gemm.h muon.h
	$(call compile,$<,-shared -fPIC -fvisibility=hidden -Wl$(comma)-soname$(comma)$(SONAME) -Wl$(comma)-Bsymbolic)
	$(Q)ln -sf libmuon.so $(BUILD)/$(SONAME)
$(BUILD)/train_gpt.1: $(TRAINER) dev/man.sh muon.h
	@dev/man.sh $(TRAINER) $(MUON_VERSION) > $@.new && mv $@.new $@
$(BUILD)/test_install: $(BUILD)/libmuon.so
$(BUILD)/test_libmuon: dev/test/test_libmuon.c dev/test/inlined.c dev/test/test.h $(BUILD)/libmuon.so $(HEADERS) | setup
	$(call compile,$< dev/test/inlined.c,,-L$(BUILD) -lmuon '-Wl$(comma)-rpath$(comma)$$ORIGIN')
$(BUILD)/test_tiles: dev/test/test_gemm.c
$(BUILD)/test_attn_tiles: dev/test/test_attn.c
$(BUILD)/test_plan: tools/plan.h tools/law.h
$(BUILD)/test_tokenize: data/tokenize.c
$(BUILD)/test_ab: tools/ab.c $(wildcard tools/*.h)
$(BUILD)/test_plot: tools/plot.c
$(BUILD)/test_watch: tools/serve.h tools/watch_run.h
$(BUILD)/test_tensorboard: tools/tfevents.h
$(BUILD)/test_run: dev/test/test_run.c dev/test/test.h dev/test/train.h $(GPT) | setup
	$(call compile,$<,-include $(BUILD)/commit.h -Wno-unused-function)
$(BUILD)/ranks: dev/test/ranks.c dev/test/test.h dev/test/train.h $(HEADERS) | setup
	$(call compile,$<,-Wno-unused-function)
$(BUILD)/test_export: dev/test/test_export.c dev/test/test.h dev/test/train.h $(HEADERS) | setup
	$(call compile,$<,-Wno-unused-function)
$(BUILD)/test_import: dev/test/test_import.c dev/test/test.h dev/test/train.h $(HEADERS) | setup
	$(call compile,$<,-Wno-unused-function)
$(BUILD)/test_lab: dev/test/test_lab.c dev/exp/lab.h dev/test/test.h $(GPT) | setup
	$(call compile,$<,-include $(BUILD)/commit.h -Wno-unused-function)
$(BUILD)/test_%: dev/test/test_%.c $(wildcard dev/test/*.h) $(HEADERS) | setup
	$(call compile,$<)
.SECONDEXPANSION:
$(BUILD)/study_%: dev/exp/$$*/$$*.c dev/exp/lab.h $(GPT) | setup
	$(call compile,$<,-include $(BUILD)/commit.h -Wno-unused-function)
