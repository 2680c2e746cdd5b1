// Binds the names of a parsed template to slots of scopes, by Jinja's rules: loops, macros, call,
// filter and with blocks and block assignments open scopes; if does not; what is assigned in a
// scope is not seen outside it.
//
// Threads: a function of its arguments.
#ifndef TIDAL_CHAT_JINJA_SCOPE_H_
#define TIDAL_CHAT_JINJA_SCOPE_H_

#include "base/status.h"
#include "chat/jinja_ast.h"

namespace tidal::jinja {

// Fills every SlotRef and Scope of the tree. Errors: kInvalidArgument with line and column for a
// filter or test that Jinja does not have, where it refuses such a template before rendering it
// (that is, not under a condition).
Status BindNames(TemplateTree* tree);

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_SCOPE_H_
