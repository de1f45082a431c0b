/* model_tools.c - the programs that open a model, in one: build/generate, build/eval, ... are links to it, and it does what the name
 * says by which it is called.
 *
 * Each of them is a whole program in its own file and needs nearly all of train_gpt.c, which so is compiled once for seven.
 */
#define _GNU_SOURCE
#define main generate_main
#include "generate.c"
#undef main
#define main eval_main
#include "eval.c"
#undef main
#define main attention_main
#include "attention.c"
#undef main
#define main export_main
#include "export.c"
#undef main
#define main import_main
#include "import.c"
#undef main
#define main plan_main
#include "plan.c"
#undef main
#define main logits_main
#include "../dev/golden/logits.c"
#undef main

int main(int argc, char **argv) {
    static const struct { const char *name; int (*run)(int, char **); } programs[] = {
        {"generate", generate_main}, {"eval", eval_main}, {"attention", attention_main}, {"export", export_main},
        {"import", import_main}, {"plan", plan_main}, {"logits", logits_main},
    };
    const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];
    for (size_t i = 0; i < COUNT_OF(programs); i++)
        if (!strcmp(name, programs[i].name)) return programs[i].run(argc, argv);
    fail_usage("%s: to be called by one of the names generate, eval, attention, export, import, plan, logits", name);
}
