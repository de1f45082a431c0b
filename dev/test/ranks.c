/* ranks.c - trainings on several ranks against the same on one: bits, resuming, ends of every kind. `make test-ranks MPI=mpich`
 * builds and runs it; needs MPI, so it isn't one of `make test`.
 *
 * MPI: the library's name, as dev/ranks.sh takes it. From the project's folder, as all tests.
 */
#define _GNU_SOURCE
#include "../../src/util.h"
#include "../../src/checkpoint.h"
#include "test.h"
#include "train.h"

static const char *library, *ranked;     // MPI's name, and the program that is built with it: MPI and RANKED, set by the Makefile

// A training on so many ranks of so many threads; 0 ranks: train_gpt, without MPI. Returns its exit code.
#define RANKS(n, threads, ...) (prepare_runs(), ranks_command(n, threads, "", format(__VA_ARGS__)))
static int ranks_command(int n, int threads, const char *before, char *arguments) {
    char *start = n ? format("dev/ranks.sh %d %s %s", n, library, ranked) : xstrdup(trainer);
    int code = shell("%s OMP_NUM_THREADS=%d timeout -k 3 60 %s %s > build/test/out.txt 2> build/test/err.txt", before, threads, start, arguments);
    free(start), free(arguments);
    return code;
}

// For a shell: waits until the log of a run that $pid trains has these words, and ends with 97 where that ends before.
#define AWAIT(words, run) "while ! grep -qs '" words "' build/test/runs/" run "/log.jsonl; do sleep 0.02; kill -0 $pid 2> /dev/null || exit 97; done; "

static void check_runs(int n, int threads, const char *one, const char *many, const char *arguments) {
    int code = RANKS(n, threads, "%s --overwrite --run.dir=build/test/runs/%s", arguments, many);
    if (code) {
        CHECK_MSG(false, "exit code %d: %s", code, read_file("build/test/err.txt", NULL));
        return;
    }
    char a[128], b[128];
    snprintf(a, sizeof a, "build/test/runs/%s/checkpoint.bin", one);
    snprintf(b, sizeof b, "build/test/runs/%s/checkpoint.bin", many);
    check_same_checkpoint(a, b);
    snprintf(a, sizeof a, "build/test/runs/%s", one);
    snprintf(b, sizeof b, "build/test/runs/%s", many);
    char *x = log_without_times(a), *y = log_without_times(b);
    CHECK_MSG(!strcmp(x, y), "the logs of %s and %s differ", one, many);
    free(x), free(y);
}

static const char *const architectures[] = {
    "--model.arch=gpt2", "--model.arch=speedrun --optimizer.qk_clip.tau=0 --optimizer.name=normuon",
    "--model.arch=llama --model.kv_heads=1 --optimizer.ema_nesterov.beta=0.6 --optimizer.tail_ema.mix=0.6",
    ("--model.arch=k2 --model.q_lora=8 --model.kv_lora=8 --model.nope=8 --model.rope=4 --model.v_head=8 --model.experts=4 "
    "--model.expert_width=8 --model.dropout=0 --optimizer.muon.per_head=true"),
};
#define COMMON "build/test/run.json --train.steps=30 --train.batch=24 --train.micro_batch=0 --train.sample_tokens=0"

// MuonClip clips heads in nearly every step (tau 0.01).
TEST(every_architecture_has_the_same_bits_on_one_and_four_ranks) {
    for (size_t a = 0; a < COUNT_OF(architectures); a++)
        for (int bf16 = 0; bf16 < 2; bf16++) {
            char *arguments = format(COMMON " --train.parts=8 %s --train.precision=%s", architectures[a], bf16 ? "bf16" : "fp32");
            CHECK(RANKS(0, 1, "%s --overwrite --run.dir=build/test/runs/one", arguments) == 0);
            check_runs(4, 1, "one", "four", arguments);
            free(arguments);
        }
}

// Rank 0's clock decides how many steps there are, and all make as many: one rank repeats them.
TEST(ranks_end_by_one_clock) {
    static const char *const ways[] = {"--train.parts=2", "--train.local_steps=5 --train.eval_every=0 --train.save_every=0"};
    for (size_t i = 0; i < COUNT_OF(ways); i++) {
        int code = RANKS(2, 1, "build/test/run.json --schedule.kind=trapezoid --train.minutes=0.03 --train.batch=24 --train.micro_batch=0 "
                         "--train.sample_tokens=0 %s --overwrite --run.dir=build/test/runs/clock", ways[i]);
        CHECK_MSG(code == 0, "exit code %d: %s", code, read_file("build/test/err.txt", NULL));
        CHECK(shell("grep -q '\"minutes\": 0,' build/test/runs/clock/config.json && grep -q '\"event\": \"steps\"' build/test/runs/clock/log.jsonl") == 0);
        CHECK(RANKS(i ? 2 : 0, 1, "build/test/runs/clock/config.json --overwrite --run.dir=build/test/runs/again") == 0);
        check_same_checkpoint("build/test/runs/again/checkpoint.bin", "build/test/runs/clock/checkpoint.bin");
    }
}

// A rank that stands still in the cooldown: the end bends, for all ranks alike, and one rank repeats it.
TEST(a_cooldown_bends_on_all_ranks_alike) {
    prepare_runs();
    int code = shell("OMP_NUM_THREADS=1 timeout -k 3 60 dev/ranks.sh 2 %s %s build/test/run.json --schedule.kind=trapezoid --train.minutes=0.05 "
                     "--train.batch=24 --train.micro_batch=0 --train.sample_tokens=0 --train.parts=2 --overwrite --run.dir=build/test/runs/bent "
                     "> build/test/out.txt 2> build/test/err.txt & pid=$!; "
                     AWAIT("\"event\": \"steps\"", "bent")
                     "rank=$(pgrep -of '^%s .*runs/bent'); kill -STOP $rank || exit 96; sleep 0.4; kill -CONT $rank; wait $pid", library, ranked, ranked);
    CHECK_MSG(code == 0, "exit code %d: %s", code, read_file("build/test/err.txt", NULL));
    CHECK_MSG(shell("grep -q 'fewer, to end in time$' build/test/out.txt && grep -q '\"bends\": \\[[0-9]' build/test/runs/bent/config.json") == 0,
              "%s", read_file("build/test/out.txt", NULL));
    CHECK(RANKS(0, 1, "build/test/runs/bent/config.json --overwrite --run.dir=build/test/runs/again") == 0);
    check_same_checkpoint("build/test/runs/again/checkpoint.bin", "build/test/runs/bent/checkpoint.bin");
}

TEST(any_number_of_ranks_and_threads_has_the_same_bits) {
    static const struct { int parts, ranks, threads; } cases[] = {{8, 1, 2}, {8, 2, 1}, {8, 2, 2}, {8, 8, 1}, {8, 4, 2}, {12, 3, 1}, {12, 6, 1}, {3, 3, 2}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char *arguments = format(COMMON " --train.parts=%d --model.arch=llama", cases[i].parts);
        if (i == 0 || cases[i].parts != cases[i - 1].parts)
            CHECK(RANKS(0, 1, "%s --overwrite --run.dir=build/test/runs/one", arguments) == 0);
        check_runs(cases[i].ranks, cases[i].threads, "one", "many", arguments);
        free(arguments);
    }
}

// Root starts most of the tests in CI's containers; here somebody else does.
TEST(any_user_may_start_ranks) {
    if (getuid() != 0 || shell("runuser -u nobody -- test -x %s -a -r build/test/data/tokenizer.bin", ranked) != 0) {
        printf("    not as another user: %s\n", getuid() ? "this one is not root" : "nobody may not read this folder");
        return;
    }
    CHECK(shell("rm -rf /tmp/muon_ranks.%d && mkdir /tmp/muon_ranks.%d && chown nobody /tmp/muon_ranks.%d", getpid(), getpid(), getpid()) == 0);
    int code = shell("OMP_NUM_THREADS=1 HOME=/tmp/muon_ranks.%d timeout -k 3 60 runuser -u nobody -- dev/ranks.sh 2 %s %s " COMMON
                     " --run.dir=/tmp/muon_ranks.%d/run > build/test/out.txt 2> build/test/err.txt", getpid(), library, ranked, getpid());
    CHECK_MSG(code == 0, "exit code %d: %s", code, read_file("build/test/err.txt", NULL));
    CHECK(shell("rm -r /tmp/muon_ranks.%d", getpid()) == 0);
}

TEST(parts_are_eight_where_nobody_says) {
    CHECK(RANKS(2, 1, COMMON " --overwrite --run.dir=build/test/runs/auto") == 0);
    CHECK(shell("grep -q '\"parts\": 8' build/test/runs/auto/config.json") == 0);
    CHECK(RANKS(3, 1, COMMON " --overwrite --run.dir=build/test/runs/auto") == 0);
    CHECK(shell("grep -q '\"parts\": 3' build/test/runs/auto/config.json") == 0);
    CHECK(shell("grep -q '\"ranks\": 3' build/test/runs/auto/log.jsonl") == 0);
}

// Four ranks that are told to stop, and two that go on.
TEST(a_run_that_was_stopped_goes_on_with_other_ranks) {
    static const char *const signals[] = {"TERM", "HUP"};
    CHECK(RANKS(0, 1, COMMON " --train.steps=150 --train.parts=8 --overwrite --run.dir=build/test/runs/one") == 0);
    for (size_t i = 0; i < COUNT_OF(signals); i++) {
        char *then = format("kill -%s $pid", signals[i]);
        CHECK(shell("rm -rf build/test/runs/stopped; OMP_NUM_THREADS=1 timeout -k 60 60 dev/ranks.sh 4 %s %s " COMMON " --train.steps=150 --train.parts=8 "
                    "--run.dir=build/test/runs/stopped > build/test/out.txt 2> build/test/err.txt & pid=$!; "
                    AWAIT("\"step\": 20,", "stopped")
                    "%s; wait $pid", library, ranked, then) == EXIT_INTERRUPTED);
        CHECK(shell("grep -q 'interrupted at step .*; go on with: make train RANKS=4.* ARGS=\"--run.dir=build/test/runs/stopped --resume\"$' build/test/out.txt") == 0);
        CHECK_MSG(shell("test ! -s build/test/err.txt") == 0, "%s", read_file("build/test/err.txt", NULL));
        CHECK(RANKS(2, 1, "--run.dir=build/test/runs/stopped --resume") == 0);
        check_same_checkpoint("build/test/runs/one/checkpoint.bin", "build/test/runs/stopped/checkpoint.bin");
        free(then);
    }
}

#define LOCAL COMMON " --model.arch=llama --model.experts=4 --model.expert_width=8 --train.local_steps=5 --train.save_every=20 --schedule.kind=constant"

// Ranks that train alone: as many bits for any number of threads, after a resume, too, which another number of ranks may not.
TEST(local_steps_of_many_ranks_resume_to_the_same_bits) {
    for (int n = 2; n <= 4; n += 2) {
        CHECK(RANKS(n, 1, LOCAL " --train.steps=60 --overwrite --run.dir=build/test/runs/whole") == 0);
        CHECK(RANKS(n, 2, LOCAL " --train.steps=20 --overwrite --run.dir=build/test/runs/cut") == 0);
        CHECK(RANKS(n, 2, "--run.dir=build/test/runs/cut --resume --train.steps=60") == 0);
        check_same_checkpoint("build/test/runs/whole/checkpoint.bin", "build/test/runs/cut/checkpoint.bin");
        char *whole = log_without_times("build/test/runs/whole"), *cut = log_without_times("build/test/runs/cut");
        CHECK_MSG(!strcmp(whole, cut), "%d ranks: the logs differ", n);
        free(whole), free(cut);
    }
    CHECK(shell("grep -q 'every 5 steps, which each rank makes alone' build/test/out.txt && grep -q 'MB a step from each rank' build/test/out.txt") == 0);
    Checkpoint c;
    char error[512];
    if (checkpoint_open(&c, "build/test/runs/whole/checkpoint.bin", error, sizeof error) != 0) fail("%s", error);
    const CkptTensor *first = checkpoint_find(&c, "m.wq"), *last = checkpoint_find(&c, "m.wq@3");
    CHECK(first && last && memcmp(first->data, last->data, 64) && checkpoint_find(&c, "o.wq") && checkpoint_find(&c, "o.router_bias"));
    checkpoint_close(&c);
    check_error_line(RANKS(2, 1, "--run.dir=build/test/runs/cut --resume"), EXIT_USAGE, "train.parts: 4 on 2 ranks; with train.local_steps");
    check_error_line(RANKS(0, 1, "--run.dir=build/test/runs/cut --resume"), EXIT_USAGE, "train.parts: 4 on 1 rank; with train.local_steps");
    CHECK(shell("%s/generate build/test/runs/cut --tokens=5 > build/test/out.txt 2>&1", build) == 0);
}

// By SGD without momentum the mean of the weights after one step of each is what a step on the mean gradient gives, for any number of
// ranks: of three, too, whose mean rounds, and of experts' biases and tensors that nobody trains, which stay to the bit.
TEST(the_mean_of_steps_by_sgd_is_the_step_on_the_mean) {
    const char *sgd = COMMON " --model.arch=llama --optimizer.name=sgd --optimizer.sgd.momentum=0 --optimizer.qk_clip.tau=0 --train.grad_clip=0 "
                      "--optimizer.route=wo=none --model.dropout=0.1 --overwrite";
    for (int n = 2; n <= 4; n++) {
        int tensors;
        CHECK(RANKS(n, 1, "%s --train.parts=%d --run.dir=build/test/runs/together", sgd, n) == 0);
        CHECK(RANKS(n, 1, "%s --train.local_steps=1 --train.outer_lr=1 --train.outer_momentum=0 --run.dir=build/test/runs/alone", sgd) == 0);
        double apart = checkpoint_distance("build/test/runs/together/checkpoint.bin", "build/test/runs/alone/checkpoint.bin", &tensors);
        CHECK_MSG(apart < 2e-6 && tensors > 10, "%d ranks: %d tensors are up to %g apart", n, tensors, apart);
        Checkpoint together = run_checkpoint("build/test/runs/together"), alone = run_checkpoint("build/test/runs/alone");
        const CkptTensor *a = checkpoint_find(&together, "w.wo"), *b = checkpoint_find(&alone, "w.wo");
        CHECK(!memcmp(a->data, b->data, sizeof(float) * a->shape[0] * a->shape[1] * a->shape[2]));
        checkpoint_close(&together), checkpoint_close(&alone);
    }
}

// A signal between outer steps: all ranks go on to the next one and save.
TEST(local_steps_stop_at_an_outer_step) {
    prepare_runs();
    CHECK(shell("rm -rf build/test/runs/stopped; OMP_NUM_THREADS=1 timeout -k 60 90 dev/ranks.sh 2 %s %s " LOCAL " --train.steps=200000 --train.local_steps=40 "
                "--train.eval_every=0 --train.save_every=0 --run.dir=build/test/runs/stopped > build/test/out.txt 2> build/test/err.txt & pid=$!; "
                AWAIT("\"step\": 3,", "stopped")
                "kill -TERM $pid; wait $pid", library, ranked) == EXIT_INTERRUPTED);
    CHECK(step_of("build/test/runs/stopped/checkpoint.bin") == 40);
    CHECK(shell("grep -q 'stops at step 40, when' build/test/out.txt") == 0);
}

// kill -9 of one of four: all end, the line names what was saved, and two ranks go on from there.
TEST(a_rank_that_dies_ends_all) {
    CHECK(RANKS(0, 1, COMMON " --train.steps=150 --train.save_every=10 --train.parts=8 --overwrite --run.dir=build/test/runs/one") == 0);
    CHECK(shell("rm -rf build/test/runs/killed; OMP_NUM_THREADS=1 timeout -k 60 60 dev/ranks.sh 4 %s %s " COMMON " --train.steps=150 --train.save_every=10 --train.parts=8 "
                "--run.dir=build/test/runs/killed > build/test/out.txt 2> build/test/err.txt & pid=$!; "
                AWAIT("\"step\": 25,", "killed")
                "kill -9 $(pgrep -f '^%s ' | tail -n 1); wait $pid", library, ranked, ranked) == EXIT_FAILED);
    check_error_line(EXIT_FAILED, EXIT_FAILED, "a rank died, and all others with it");
    CHECK(shell("grep -q 'saved before: build/test/runs/killed/checkpoint.bin; go on with: make train RANKS=4' build/test/err.txt") == 0);
    CHECK(shell("for i in $(seq 50); do pgrep -f '^%s ' > /dev/null || exit 0; sleep 0.1; done; exit 1", ranked) == 0);
    CHECK(RANKS(2, 1, "--run.dir=build/test/runs/killed --resume") == 0);
    check_same_checkpoint("build/test/runs/one/checkpoint.bin", "build/test/runs/killed/checkpoint.bin");
}

TEST(what_cannot_be_is_said_in_one_line) {
    check_error_line(RANKS(3, 1, COMMON " --train.parts=8 --overwrite --run.dir=build/test/runs/bad"), EXIT_USAGE,
                     "train.parts: 8 on 3 ranks; the ranks times a power of two is expected");
    check_error_line(RANKS(5, 1, COMMON " --overwrite --run.dir=build/test/runs/bad"), EXIT_USAGE, "train.parts: 5 does not divide train.batch (24)");
    check_error_line(RANKS(2, 1, COMMON " --data.dir=build/test/nowhere --overwrite --run.dir=build/test/runs/bad"), EXIT_FAILED, "build/test/nowhere: no such folder");
    check_error_line(RANKS(2, 1, COMMON " --explain=3 --overwrite --run.dir=build/test/runs/bad"), EXIT_USAGE, "--explain=3: on one rank only");
    check_error_line(RANKS(2, 1, COMMON " --optimizer.muon.lr=1e6 --optimizer.adamw.lr=1e6 --overwrite --run.dir=build/test/runs/bad"), EXIT_FAILED, "error: step ");
    check_error_line(RANKS(1, 1, COMMON " --train.steps=x --overwrite --run.dir=build/test/runs/bad"), EXIT_USAGE, "--train.steps=x");
    check_error_line(RANKS(1000, 1, COMMON), EXIT_USAGE, "RANKS=1000: at most ");
    check_error_line(shell("dev/ranks.sh two %s %s > build/test/out.txt 2> build/test/err.txt", library, ranked), EXIT_USAGE, "RANKS=two: the number of ranks");
    // a launcher of another library, or a program that knows none
    check_error_line(ranks_command(0, 1, "OMPI_COMM_WORLD_SIZE=4", format(COMMON)), EXIT_USAGE, "one of 4 processes that a launcher of MPI started");
    check_error_line(ranks_command(0, 1, "PMI_SIZE=2", format(COMMON)), EXIT_USAGE, "one of 2 processes");
}

TEST(help_is_no_failure) {
    CHECK(RANKS(2, 1, "--help") == 0);
    CHECK(shell("test ! -s build/test/err.txt && grep -q train.parts build/test/out.txt") == 0);
}

TEST(parts_suit_the_micro_batch_that_is_asked_for) {
    CHECK(RANKS(2, 1, COMMON " --train.micro_batch=4 --overwrite --run.dir=build/test/runs/auto") == 0);
    CHECK(shell("grep -q '\"parts\": 2' build/test/runs/auto/config.json") == 0);
}

// The child that draws is no rank: loss.png is a folder.
TEST(a_picture_that_fails_ends_no_rank) {
    CHECK(RANKS(2, 1, COMMON " --overwrite --run.dir=build/test/runs/png") == 0);
    CHECK(shell("rm build/test/runs/png/loss.png && mkdir build/test/runs/png/loss.png") == 0);
    CHECK(RANKS(2, 1, "--resume --train.steps=40 --run.dir=build/test/runs/png") == 0);
    CHECK(shell("grep -q '^warning: build/test/runs/png/loss.png: not drawn: ' build/test/err.txt && ! grep -q '^error: ' build/test/err.txt; "
                "code=$?; rm -r build/test/runs/png; exit $code") == 0);
}

// Every rank reads it.
TEST(a_damaged_checkpoint_is_said_once) {
    CHECK(RANKS(2, 1, COMMON " --train.save_every=10 --overwrite --run.dir=build/test/runs/damaged") == 0);
    CHECK(shell("truncate -s 1000 build/test/runs/damaged/checkpoint.bin") == 0);
    check_error_line(RANKS(2, 1, "--resume --train.steps=40 --run.dir=build/test/runs/damaged"), EXIT_FAILED, "; the one before it: ");
}

// Ranks that begin with something else: the second one has another config, another build of the data, another kind of CPU.
TEST(ranks_that_differ_are_refused) {
    CHECK(shell("rm -rf build/test/other && tr a e < build/test/words.txt > build/test/other.txt && "
                "%s/tokenize shards --tokenizer=char --out=build/test/other build/test/other.txt > build/test/out.txt 2>&1", build) == 0);
    static const struct { const char *second, *words; } cases[] = {
        {"--train.grad_clip=0.5", "rank 1 has another config than rank 0"},
        {"--data.dir=build/test/other --model.vocab=99", "rank 1 has another config than rank 0"},
        {"--data.dir=build/test/nowhere", "rank 1: build/test/nowhere: no such folder"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        shell("if [ %s = openmpi ]; then s='-q --allow-run-as-root --oversubscribe'; fi; "
              "OMP_NUM_THREADS=1 timeout 60 mpirun.%s $s -n 1 %s " COMMON " --overwrite --run.dir=build/test/runs/differ : "
              "-n 1 %s " COMMON " --overwrite --run.dir=build/test/runs/differ %s > build/test/out.txt 2> build/test/err.txt",
              library, library, ranked, ranked, cases[i].second);
        check_error_line(0, 0, cases[i].words);
        CHECK(!file_exists("build/test/runs/differ"));
    }
}

// MB that rank 0 sent a step, and the last loss, of a run that was profiled.
static void sent_and_loss(double *sent, double *loss) {
    char *screen = read_file("build/test/out.txt", NULL), *at = strstr(screen, "rank 0 sent "), *last = strstr(screen, "validation loss");
    for (char *next = last; next; next = strstr(next + 1, "validation loss")) last = next;
    CHECK(at && sscanf(at, "rank 0 sent %lf", sent) == 1 && last && sscanf(last, "validation loss %lf", loss) == 1);
    free(screen);
}

TEST(half_the_bytes_train_alike) {
    double sent[2] = {0}, loss[2] = {0};
    for (int half = 0; half < 2; half++) {
        CHECK(RANKS(2, 1, COMMON " --model.dropout=0 --model.width=64 --profile --train.dist_bytes=%s --overwrite --run.dir=build/test/runs/half", half ? "bf16" : "fp32") == 0);
        sent_and_loss(&sent[half], &loss[half]);
    }
    CHECK_MSG(sent[1] < 0.6 * sent[0], "%g of %g MB", sent[1], sent[0]);
    CHECK_MSG(fabs(loss[0] - loss[1]) < 0.02, "losses %g and %g", loss[0], loss[1]);
}

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    find_programs();
    library = getenv("MPI") ? getenv("MPI") : "openmpi";
    ranked = getenv("RANKED") ? getenv("RANKED") : "./train_gpt_mpi";
    RUN(every_architecture_has_the_same_bits_on_one_and_four_ranks);
    RUN(ranks_end_by_one_clock);
    RUN(a_cooldown_bends_on_all_ranks_alike);
    RUN(any_number_of_ranks_and_threads_has_the_same_bits);
    RUN(any_user_may_start_ranks);
    RUN(parts_are_eight_where_nobody_says);
    RUN(a_run_that_was_stopped_goes_on_with_other_ranks);
    RUN(local_steps_of_many_ranks_resume_to_the_same_bits);
    RUN(the_mean_of_steps_by_sgd_is_the_step_on_the_mean);
    RUN(local_steps_stop_at_an_outer_step);
    RUN(a_rank_that_dies_ends_all);
    RUN(half_the_bytes_train_alike);
    RUN(what_cannot_be_is_said_in_one_line);
    RUN(help_is_no_failure);
    RUN(parts_suit_the_micro_batch_that_is_asked_for);
    RUN(a_picture_that_fails_ends_no_rank);
    RUN(a_damaged_checkpoint_is_said_once);
    RUN(ranks_that_differ_are_refused);
    return tests_end();
}
