# muon.c: `make help` lists what there is. CC, CFLAGS, CPPFLAGS, LDFLAGS, LDLIBS, MARCH and V=1 are respected.

CC     ?= cc
CFLAGS ?= -O3 -g
MARCH  ?=                        # such as -march=native; the matrix kernels choose their instruction set at run time anyway

CONFIG ?= configs/default.json
DATA   ?=
TOKENIZER ?= $(if $(findstring command,$(origin VOCAB)),bpe)
VOCAB  ?= 4096
OUT    ?=
ARGS   ?=
RUN    ?= $(patsubst %/checkpoint.bin,%,$(firstword $(shell ls -t runs/*/checkpoint.bin 2>/dev/null)))
RUNS   ?= $(RUN)
PROMPT ?=
# Of ab and sweep: arms, the first is what the others are compared with; QUICK=1 makes tiny trainings of it.
A      ?= configs/default_adamw.json
B      ?= configs/default.json
comma  := ,
ARMS    = $(or $(CONFIGS),$(A) $(B) $(C) $(D))
SEEDS  ?= 1
QUICK_ARGS = --train.steps=20 --train.batch=4 --train.eval_every=5 --train.eval_tokens=4096 --train.final_eval_tokens=4096 --train.save_every=0
export DATA TOKENIZER OUT PROMPT VOCAB DOCUMENTS EXT SHARDS     # reach the shell as they are, whatever they contain

NAME    =                              # of a study; not from the environment, where some systems keep the machine's name
QUICK  ?=

# SAN=1: AddressSanitizer and UndefinedBehaviorSanitizer, in a build folder of their own.
BUILD := build$(if $(SAN),/san)
ifdef SAN
CFLAGS := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
endif
Q := $(if $(V),,@)

OPENMP   := $(shell echo 'int main(void){return 0;}' | $(CC) -fopenmp -x c - -o /dev/null 2>/dev/null && echo -fopenmp || echo -fopenmp-simd)
FLAGS     = -std=gnu11 -Wall -Wextra -Wshadow -fno-math-errno -fno-trapping-math $(OPENMP) $(MARCH)
LIBS      = -lcjson -lpcre2-8 -lz -lm
HEADERS  := muon.h $(wildcard src/*.h data/*.h)
TESTS    := $(BUILD)/test_gpt $(patsubst dev/test/%.c,$(BUILD)/%,$(wildcard dev/test/test_*.c)) $(BUILD)/fuzz_tokenizer
TRAINER  := $(if $(SAN),$(BUILD)/,./)train_gpt

STUDIES  := $(patsubst dev/exp/%/run.sh,%,$(wildcard dev/exp/*/run.sh))
PROGRAMS_OF_STUDIES := $(foreach s,$(STUDIES),$(if $(wildcard dev/exp/$(s)/$(s).c),$(BUILD)/study_$(s)))
ifdef NAME
$(if $(filter $(NAME),$(STUDIES)),,$(error NAME=$(NAME): no such study, `make study` lists them))
STUDY_NEEDS := $(filter %/study_$(NAME),$(PROGRAMS_OF_STUDIES)) $(addprefix $(BUILD)/,$(shell sed -n 's/^# needs: //p' dev/exp/$(NAME)/run.sh))
STUDY_OUT := $(or $(OUT),$(if $(QUICK),$(BUILD)/study/$(NAME),dev/exp/$(NAME)))
endif

# $(call compile,SOURCE): programs that include train_gpt.c, and only they, may leave functions of it unused.
compile = @mkdir -p $(@D); echo "CC $@"; $(if $(V),set -x;) $(CC) $(CPPFLAGS) $(FLAGS) $(2) $(CFLAGS) $(1) -o $@ $(LDFLAGS) $(LIBS) $(3) $(LDLIBS)

.PHONY: all programs train data tokenizer test fuzz ab sweep sample plot pictures bench bench-torch bench-muon bench-tokenizer study help clean distclean setup commit
.DEFAULT_GOAL := all

all: $(TRAINER) $(BUILD)/tokenize $(BUILD)/generate $(BUILD)/plot ## build the programs

train: all data                                          ## train CONFIG on its data or on DATA (kjv, gcide, ..., path.txt, folder/), with ARGS
	$(Q)$(TRAINER) $(CONFIG) $(ON_DATA) $(ARGS)

data: $(BUILD)/tokenize | setup                          ## prepare the shards and the tokenizer of DATA (TOKENIZER=char|byte|bpe|gpt2|FILE, VOCAB=4096) under build/data
	$(Q)$(PREPARE) "$(CORPUS)" "$$TOKENIZER"

tokenizer: $(BUILD)/tokenize | setup                     ## train a byte-pair encoding of VOCAB tokens on DATA, into OUT=tok.json (build/data/NAME-bpeVOCAB.json)
	$(Q)$(PREPARE) --tokenizer "$(CORPUS)" "$$OUT"

# The corpus: DATA, else the one that the config names by its folder; any other folder is the user's own and must be there.
PREPARE = BUILD=$(BUILD) data/prepare.sh
CORPUS  = $(if $(DATA),$$DATA,--config=$(CONFIG))
ON_DATA = $(if $(DATA)$(TOKENIZER),--data.dir="$$($(PREPARE) --folder "$(CORPUS)" "$$TOKENIZER")")

TESTED := $(TESTS) $(TRAINER) $(BUILD)/tokenize $(BUILD)/generate $(BUILD)/chart
programs: $(TESTED) $(BUILD)/plot $(BUILD)/ab $(BUILD)/pictures $(BUILD)/bench $(BUILD)/bench_muon $(BUILD)/bench_tokenizer $(PROGRAMS_OF_STUDIES)

test: $(TESTED)                                          ## run every test; SAN=1: under the sanitizers
	$(Q)BUILD=$(BUILD) TRAINER=$(TRAINER) dev/test/run.sh $(TESTS)

# Without trace-cmp, which would take two thirds of the time: the corpus has the magic words.
# New inputs that reach other code are kept in build/fuzz/corpus, one that fails as build/fuzz/crash-...
fuzz: build/fuzz/fuzz_tokenizer                          ## try RUNS=1000000 inputs on the tokenizer, found by clang's libFuzzer
	$(Q)mkdir -p build/fuzz/corpus && build/fuzz/fuzz_tokenizer -runs=$(if $(filter file,$(origin RUNS)),1000000,$(RUNS)) -max_len=4096 \
	    -artifact_prefix=build/fuzz/ -print_final_stats=1 $(ARGS) build/fuzz/corpus dev/test/fuzz_corpus

ab: all $(BUILD)/ab | setup                              ## compare A=configs/x.json B=configs/y.json (or CONFIGS="..."), SEEDS="1 2 3", ARGS="--budgets=0.5,1,2"
	$(Q)for config in $(sort $(filter %.json,$(subst =, ,$(subst $(comma), ,$(ARMS))))); do \
	    $(PREPARE) $(if $(DATA),"$$DATA" "$$TOKENIZER","--config=$$config") || exit; done
	$(Q)$(BUILD)/ab $(ARMS) $(if $(DATA),$(ON_DATA)) --trainer=$(TRAINER) --seeds="$(SEEDS)" $(if $(OUT),--out=$(OUT)) $(if $(QUICK),$(QUICK_ARGS)) $(ARGS)

sweep: all $(BUILD)/ab data                              ## train CONFIG over GRID="optimizer.muon.lr=0.005,0.01,0.02", SEEDS="1", RANDOM=20, BUDGET=0.5, ARGS="--extend"
	$(Q)$(BUILD)/ab sweep $(CONFIG) $(ON_DATA) --trainer=$(TRAINER) --grid="$(GRID)" --seeds="$(SEEDS)" $(if $(OUT),--out=$(OUT)) $(if $(RANDOM),--random=$(RANDOM)) \
	    $(if $(BUDGET),--budget=$(BUDGET)) $(if $(QUICK),$(QUICK_ARGS)) $(ARGS)

sample: $(BUILD)/generate                                ## write text with a RUN's model: PROMPT="In the beginning" ARGS="--temperature=0.8 --top_k=20"
	$(Q)$(BUILD)/generate $(RUN) $(if $(PROMPT),--prompt="$$PROMPT") $(ARGS)

plot: $(BUILD)/plot                                      ## draw the losses of RUNS="runs/a runs/b" in one picture
	$(Q)$(BUILD)/plot $(RUNS) $(ARGS)

pictures: $(BUILD)/pictures                              ## draw the teaching pictures of muon.h into dev/exp
	$(Q)$(BUILD)/pictures dev/exp

bench: $(BUILD)/bench                                    ## measure peaks, products, attention, training steps and their passes; ARGS="train passes -q"
	$(Q)dev/bench/bench.sh $(BUILD) $(ARGS)

bench-torch: $(BUILD)/bench                              ## the same training steps and products by PyTorch, side by side
	$(Q)dev/bench/torch.sh $(ARGS)

bench-muon: $(BUILD)/bench $(BUILD)/bench_muon           ## one optimizer step of every rule, beside PyTorch's where it is there; ARGS="-q"
	$(Q)dev/bench/muon.sh $(BUILD) $(ARGS)

bench-tokenizer: $(BUILD)/bench $(BUILD)/bench_tokenizer  ## byte-pair encoding: training and encoding beside PyPI's tokenizers and tiktoken; ARGS=--save keeps it
	$(Q)dev/bench/tokenizer.sh $(BUILD) $(ARGS)

study: $(STUDY_NEEDS)                                    ## re-measure a claim of the literature: NAME=tail-memory QUICK=1; without NAME: the list
	$(Q)$(if $(NAME),BUILD=$(BUILD) QUICK=$(QUICK) OUT="$(STUDY_OUT)" dev/exp/$(NAME)/run.sh,for s in $(STUDIES); do printf '  %-14s %s\n' "$$s" "$$(sed -n '1s/^# //p' dev/exp/$$s/README.md)"; done)

help:                                                    ## this list
	@echo "make TARGET [VARIABLE=value ...]"; sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r a b; do printf '  %-15s %s\n' "$$a" "$$b"; done

clean:                                                   ## remove what was built; prepared data, PyTorch and runs stay
	$(Q)find build -mindepth 1 -maxdepth 1 ! -name data ! -name venv -exec rm -rf {} + 2>/dev/null; rm -f train_gpt

distclean: clean                                         ## remove these too, but no runs
	$(Q)rm -rf build

setup:
	$(Q)dev/setup.sh build

# The commit is part of every run's log; the file changes, and the trainer is built anew, only when the commit does.
$(BUILD)/commit.h: commit
	@mkdir -p $(BUILD); c=$$(git describe --always --exclude '*' 2>/dev/null || echo unknown); \
	git diff --quiet HEAD -- '*.c' '*.h' Makefile 2>/dev/null || c=$$c-changed; echo "#define MUON_C_COMMIT \"$$c\"" > $@.new; \
	cmp -s $@.new $@ && rm $@.new || mv $@.new $@

$(TRAINER): train_gpt.c $(HEADERS) $(BUILD)/commit.h | setup
	$(call compile,$<,-include $(BUILD)/commit.h)
$(BUILD)/test_gpt: test_gpt.c train_gpt.c dev/test/test.h $(HEADERS) $(BUILD)/commit.h | setup
	$(call compile,$<,-include $(BUILD)/commit.h -Wno-unused-function)
$(BUILD)/generate: dev/generate.c train_gpt.c $(HEADERS) $(BUILD)/commit.h | setup
	$(call compile,$<,-include $(BUILD)/commit.h -Wno-unused-function)
$(BUILD)/plot: dev/plot.c $(HEADERS) | setup
	$(call compile,$<)
$(BUILD)/ab: dev/ab.c dev/runs.h dev/stats.h $(HEADERS) | setup
	$(call compile,$<)
$(BUILD)/tokenize: data/tokenize.c $(HEADERS) | setup
	$(call compile,$<)
$(BUILD)/bench: dev/bench/bench.c dev/bench/table.h train_gpt.c $(HEADERS) $(BUILD)/commit.h | setup
	$(call compile,$<,-include $(BUILD)/commit.h -Wno-unused-function,-ldl)
$(BUILD)/bench_muon: dev/bench/bench_muon.c dev/bench/table.h train_gpt.c $(HEADERS) $(BUILD)/commit.h | setup
	$(call compile,$<,-include $(BUILD)/commit.h -Wno-unused-function)
$(BUILD)/bench_tokenizer: dev/bench/bench_tokenizer.c $(HEADERS) | setup
	$(call compile,$<)
$(BUILD)/fuzz_tokenizer: dev/test/fuzz_tokenizer.c $(wildcard dev/test/*.h) $(HEADERS) | setup
	$(call compile,$<,-DPLAIN)
build/fuzz/fuzz_tokenizer: dev/test/fuzz_tokenizer.c $(wildcard dev/test/*.h) $(HEADERS) | setup
	$(Q)dev/setup.sh fuzz
	@mkdir -p $(@D); echo "CC $@"; clang $(CPPFLAGS) -std=gnu11 -Wall -Wextra -Wshadow -fopenmp-simd -O2 -g -fno-omit-frame-pointer \
	    -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -fno-sanitize-coverage=trace-cmp $< -o $@ $(LDFLAGS) $(LIBS) $(LDLIBS)
$(BUILD)/chart: dev/exp/chart.c $(HEADERS) | setup
	$(call compile,$<)
$(BUILD)/pictures: dev/exp/pictures.c $(HEADERS) | setup
	$(call compile,$<)
$(BUILD)/test_tiles: dev/test/test_gemm.c
$(BUILD)/test_attn_tiles: dev/test/test_attn.c
$(BUILD)/test_ab: dev/ab.c dev/runs.h dev/stats.h
$(BUILD)/test_lab: dev/test/test_lab.c dev/exp/lab.h dev/stats.h dev/test/test.h train_gpt.c $(HEADERS) $(BUILD)/commit.h | setup
	$(call compile,$<,-include $(BUILD)/commit.h -Wno-unused-function)
$(BUILD)/test_%: dev/test/test_%.c $(wildcard dev/test/*.h) $(HEADERS) | setup
	$(call compile,$<)
.SECONDEXPANSION:
$(BUILD)/study_%: dev/exp/$$*/$$*.c dev/exp/lab.h dev/stats.h train_gpt.c $(HEADERS) $(BUILD)/commit.h | setup
	$(call compile,$<,-include $(BUILD)/commit.h -Wno-unused-function)
