/* gpt.h - train_gpt.c as a library: the model, its config and its run, for programs that are not the trainer. */
#ifndef GPT_H
#define GPT_H

#define GPT_NO_MAIN
#include "../train_gpt.c"

#endif
