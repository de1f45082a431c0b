/* json.h - cJSON with the project's memory: where there is none left the program ends with one line. cJSON itself returns
 * NULL for it, which is also what it returns for a text that is no JSON: a good file would be called damaged.
 *
 * Include it in the place of <cjson/cJSON.h>.
 */
#ifndef JSON_H
#define JSON_H

#include <cjson/cJSON.h>
#include "util.h"

__attribute__((constructor)) static void json_use_xmalloc(void) {
    cJSON_InitHooks(&(cJSON_Hooks){ .malloc_fn = xmalloc, .free_fn = free });
}

#endif // JSON_H
