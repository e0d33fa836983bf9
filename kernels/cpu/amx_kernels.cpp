#define QUETZAL_AMX_TABLE amxTable
#define QUETZAL_AMX_NAME "amx"
#include "amx.inc"
