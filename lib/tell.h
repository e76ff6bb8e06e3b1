/* SPDX-License-Identifier: MIT */
/*
 * tell.h - lines for standard error in the middle of a request (layer 1).
 *
 * Who reads may have gone, or stopped to read.  Neither is to end the program,
 * by SIGPIPE, nor to hold the request: what does not fit is not said.
 */
#ifndef PP_TELL_H
#define PP_TELL_H

#include "base/strbuf.h"

/* Adds whose line it is: name[pid]. */
void tell_program(struct strbuf *sb);

/* Writes @sb to standard error, as far as that takes it at once. */
void tell_stderr(const struct strbuf *sb);

#endif
