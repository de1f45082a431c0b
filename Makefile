# muon.c: `make help` lists what there is. CC, CFLAGS, CPPFLAGS, LDFLAGS, LDLIBS, MARCH and V=1 are respected.

CC     ?= cc
CFLAGS ?= -O3 -g
MARCH  ?=                        # such as -march=native; the matrix kernels choose their instruction set at run time anyway

CONFIG ?= configs/default.json
DATA   ?=
TOKENIZER ?= char
VOCAB  ?= 4096
ARGS   ?=
RUN    ?= $(patsubst %/checkpoint.bin,%,$(firstword $(shell ls -t runs/*/checkpoint.bin 2>/dev/null)))
RUNS   ?= $(RUN)
PROMPT ?=
NAME    =                              # of a study; not from the environment, where some systems keep the machine's name
QUICK  ?=
export DATA PROMPT VOCAB               # reach the shell as they are, whatever they contain

# SAN=1: AddressSanitizer and UndefinedBehaviorSanitizer, in a build folder of their own.
B := build$(if $(SAN),/san)
ifdef SAN
CFLAGS := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
endif
Q := $(if $(V),,@)

OPENMP   := $(shell echo 'int main(void){return 0;}' | $(CC) -fopenmp -x c - -o /dev/null 2>/dev/null && echo -fopenmp || echo -fopenmp-simd)
FLAGS     = -std=gnu11 -Wall -Wextra -Wshadow -fno-math-errno -fno-trapping-math $(OPENMP) $(MARCH)
LIBS      = -lcjson -lpcre2-8 -lz -lm
HEADERS  := muon.h $(wildcard src/*.h data/*.h)
TESTS    := $(B)/test_gpt $(patsubst dev/test/%.c,$(B)/%,$(wildcard dev/test/test_*.c))
STUDIES  := $(patsubst dev/exp/%/run.sh,%,$(wildcard dev/exp/*/run.sh))
PROGRAMS_OF_STUDIES := $(foreach s,$(STUDIES),$(if $(wildcard dev/exp/$(s)/$(s).c),$(B)/study_$(s)))
ifdef NAME
$(if $(filter $(NAME),$(STUDIES)),,$(error NAME=$(NAME): no such study, `make study` lists them))
STUDY_NEEDS := $(filter %/study_$(NAME),$(PROGRAMS_OF_STUDIES)) $(addprefix $(B)/,$(shell sed -n 's/^# needs: //p' dev/exp/$(NAME)/run.sh))
OUT ?= $(if $(QUICK),$(B)/study/$(NAME),dev/exp/$(NAME))
endif
TRAINER  := $(if $(SAN),$(B)/,./)train_gpt

# $(call compile,SOURCE): programs that include train_gpt.c, and only they, may leave functions of it unused.
compile = @mkdir -p $(@D); echo "CC $@"; $(if $(V),set -x;) $(CC) $(CPPFLAGS) $(FLAGS) $(2) $(CFLAGS) $(1) -o $@ $(LDFLAGS) $(LIBS) $(3) $(LDLIBS)

.PHONY: all programs train data test sample plot pictures bench bench-torch bench-muon study help clean distclean setup commit
.DEFAULT_GOAL := all

all: $(TRAINER) $(B)/tokenize $(B)/generate $(B)/plot    ## build the programs

train: all data                                          ## train CONFIG on its data or on DATA (kjv, shakespeare, path.txt), with ARGS
	$(Q)$(TRAINER) $(CONFIG) $(if $(DATA),--data.dir="$$(data/prepare.sh --folder "$$DATA")") $(ARGS)

data: $(B)/tokenize | setup                              ## prepare the shards and the tokenizer of DATA (TOKENIZER=char|byte|bpe, VOCAB=4096) under build/data
	$(Q)$(if $(or $(DATA),$(CORPUS)),BUILD=$(B) data/prepare.sh "$${DATA:-$(CORPUS)}" "$(TOKENIZER)",:)

# The corpus that the config names by its folder; any other folder is the user's own and must be there.
CORPUS = $(shell sed -nE 's,.*"build/data/(kjv|shakespeare)".*,\1,p' $(CONFIG) 2>/dev/null | head -n 1)

programs: $(TESTS) $(TRAINER) $(B)/tokenize $(B)/generate $(B)/plot $(B)/pictures $(B)/bench $(B)/bench_muon $(PROGRAMS_OF_STUDIES)

test: programs                                           ## run every test; SAN=1: under the sanitizers
	$(Q)BUILD=$(B) TRAINER=$(TRAINER) dev/test/run.sh $(TESTS)

sample: $(B)/generate                                    ## write text with a RUN's model: PROMPT="In the beginning" ARGS="--temperature=0.8 --top_k=20"
	$(Q)$(B)/generate $(RUN) $(if $(PROMPT),--prompt="$$PROMPT") $(ARGS)

plot: $(B)/plot                                          ## draw the losses of RUNS="runs/a runs/b" in one picture
	$(Q)$(B)/plot $(RUNS) $(ARGS)

pictures: $(B)/pictures                                  ## draw the teaching pictures of muon.h into dev/exp
	$(Q)$(B)/pictures dev/exp

study: $(STUDY_NEEDS)                                    ## re-measure a claim of the literature: NAME=tail-memory QUICK=1; without NAME: the list
	$(Q)$(if $(NAME),BUILD=$(B) QUICK=$(QUICK) OUT="$(OUT)" dev/exp/$(NAME)/run.sh,for s in $(STUDIES); do printf '  %-14s %s\n' "$$s" "$$(sed -n '1s/^# //p' dev/exp/$$s/README.md)"; done)

bench: $(B)/bench                                        ## measure peaks, products, attention, training steps and their passes; ARGS="train passes -q"
	$(Q)dev/bench/bench.sh $(B) $(ARGS)

bench-torch: $(B)/bench                                  ## the same training steps and products by PyTorch, side by side
	$(Q)dev/bench/torch.sh $(ARGS)

bench-muon: $(B)/bench $(B)/bench_muon                   ## one optimizer step of every rule, beside PyTorch's where it is there; ARGS="-q"
	$(Q)dev/bench/muon.sh $(B) $(ARGS)

help:                                                    ## this list
	@echo "make TARGET [VARIABLE=value ...]"; sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r a b; do printf '  %-11s %s\n' "$$a" "$$b"; done

clean:                                                   ## remove what was built; prepared data, PyTorch and runs stay
	$(Q)find build -mindepth 1 -maxdepth 1 ! -name data ! -name venv -exec rm -rf {} + 2>/dev/null; rm -f train_gpt

distclean: clean                                         ## remove these too, but no runs
	$(Q)rm -rf build

setup:
	$(Q)dev/setup.sh build

# The commit is part of every run's log; the file changes, and the trainer is built anew, only when the commit does.
$(B)/commit.h: commit
	@mkdir -p $(B); c=$$(git describe --always --exclude '*' 2>/dev/null || echo unknown); \
	git diff --quiet HEAD -- '*.c' '*.h' Makefile 2>/dev/null || c=$$c-changed; echo "#define MUON_C_COMMIT \"$$c\"" > $@.new; \
	cmp -s $@.new $@ && rm $@.new || mv $@.new $@

$(TRAINER): train_gpt.c $(HEADERS) $(B)/commit.h | setup
	$(call compile,$<,-include $(B)/commit.h)
$(B)/test_gpt: test_gpt.c train_gpt.c dev/test/test.h $(HEADERS) $(B)/commit.h | setup
	$(call compile,$<,-include $(B)/commit.h -Wno-unused-function)
$(B)/generate: dev/generate.c train_gpt.c $(HEADERS) $(B)/commit.h | setup
	$(call compile,$<,-include $(B)/commit.h -Wno-unused-function)
$(B)/plot: dev/plot.c $(HEADERS) | setup
	$(call compile,$<)
$(B)/tokenize: data/tokenize.c $(HEADERS) | setup
	$(call compile,$<)
$(B)/bench: dev/bench/bench.c dev/bench/table.h train_gpt.c $(HEADERS) $(B)/commit.h | setup
	$(call compile,$<,-include $(B)/commit.h -Wno-unused-function,-ldl)
$(B)/bench_muon: dev/bench/bench_muon.c dev/bench/table.h train_gpt.c $(HEADERS) $(B)/commit.h | setup
	$(call compile,$<,-include $(B)/commit.h -Wno-unused-function)
$(B)/pictures: dev/exp/pictures.c $(HEADERS) | setup
	$(call compile,$<)
$(B)/test_tiles: dev/test/test_gemm.c
$(B)/test_attn_tiles: dev/test/test_attn.c
$(B)/test_%: dev/test/test_%.c $(wildcard dev/test/*.h) $(HEADERS) | setup
	$(call compile,$<)
.SECONDEXPANSION:
$(B)/study_%: dev/exp/$$*/$$*.c train_gpt.c $(HEADERS) $(B)/commit.h | setup
	$(call compile,$<,-include $(B)/commit.h -Wno-unused-function)
