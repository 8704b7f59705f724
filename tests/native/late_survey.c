/* A survey while another process replaces definitions: those that it makes have no place in the
 * survey's records. */
#include "rig.h"

#define BUCKET 31
#define OTHER 32

int main(void)
{
    table_t t;
    rig_create(&t, 64);
    uint32_t slot = rig_define(&t, BUCKET, 10, SECOND, 1), count = t.h->definitions;
    take_simply(&t, slot, 1, 10);
    survey_t *s = malloc(count * sizeof *s);
    CHECK(s, "no memory");
    rig_define(&t, OTHER, 10, SECOND, 1);
    rig_define(&t, BUCKET, 20, SECOND, 1);
    survey_open(&t, s, count);
    table_lock(&t);
    survey_places(&t, 0, t.h->bump, clock_ns(&t), s, count);
    table_unlock(&t);
    CHECK(s[slot].owner == slot && s[slot].empty == 1, "owner %u, %ld keys", s[slot].owner,
          (long)s[slot].empty);
    free(s);
    rig_destroy(&t);
    return 0;
}
