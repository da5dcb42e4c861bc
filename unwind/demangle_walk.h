// Whether libiberty can print a demangled name in bounded time.
#pragma once

// libiberty's own declaration of basename() contradicts that of the C library.
#define HAVE_DECL_BASENAME 1
#include <libiberty/demangle.h>

namespace lbrd::unwind {

// False: printing the tree, as cplus_demangle_v3_components() made it, takes more than half a
// million steps, or libiberty would misread it.
//
// Components are shared (that is what substitutions are), and template parameters stand for
// arguments elsewhere, so a short name can make for an endless walk that need not even print
// anything.
bool PrintsInTime(const demangle_component* root);

}  // namespace lbrd::unwind
